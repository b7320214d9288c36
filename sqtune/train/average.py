"""The average of a training's weights (EMA): what is evaluated, stored and delivered, where wanted.

After each step: average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n))
after n steps, as in TensorFlow's ExponentialMovingAverage: so the random weights of the start are
forgotten whatever the decay and however short the training. Batch norm's running statistics are
averaged likewise. The average goes on through the stages of the ratio.

Trained on are the weights themselves: the average only takes their place for a while, in place, so
that whoever holds the parameters (the quantization's guest, a captured graph) sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """The average of a model's weights and statistics, and of what quantization learns.

    What quantization learns (steps, clipping points) first gets its values when something is
    quantized in training: it joins after the first such step, with its values then. These mean
    the same with either sign, so absolute values are averaged.

    Args:
        decay: In [0, 1); with 0 there is no average and nothing is computed.
        model: In place on its device.
        learned: What quantization learns beside its weights.
    """

    def __init__(self, decay: float, model: nn.Module, learned: Sequence[nn.Parameter]) -> None:
        self._decay, self._num_steps = decay, 0
        state = model.state_dict().values() if decay else ()
        self._weights = [value for value in state if value.is_floating_point()]
        self._averages = [value.clone() for value in self._weights]
        self._learned = [parameter.detach() for parameter in learned]
        self._learned_averages: list[Tensor] = []

    @torch.no_grad()
    def step(self, *, quantized: bool) -> None:
        """Take the weights after an optimizer's step into the average.

        Args:
            quantized: Whether anything was quantized at that step.
        """
        if not self._decay:
            return
        ramp = (1 + self._num_steps) / (10 + self._num_steps)
        update = get_ema_multi_avg_fn(min(self._decay, ramp))
        self._num_steps += 1
        update(self._averages, self._weights, None)
        if not quantized or not self._learned:
            return
        learned = [value.abs() for value in self._learned]
        if self._learned_averages:
            update(self._learned_averages, learned, None)
        else:
            self._learned_averages = learned

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the averages for the block, and its own weights back after it."""
        weights = [*self._weights, *self._learned[: len(self._learned_averages)]]
        if not self._decay:
            yield
            return
        kept = [value.clone() for value in weights]
        try:
            _copy(weights, [*self._averages, *self._learned_averages])
            yield
        finally:
            _copy(weights, kept)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the averages; None where there are none."""
        if not self._decay:
            return None
        return {
            "num_steps": self._num_steps,
            "averages": list(self._averages),
            "learned": list(self._learned_averages),
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take up what `state_dict` returned.

        Raises:
            RuntimeError: It is another model's.
        """
        if state is None:
            return
        learned = [torch.empty_like(value) for value in self._learned[: len(state["learned"])]]
        _copy(self._averages, state["averages"])
        _copy(learned, state["learned"])
        self._learned_averages, self._num_steps = learned, state["num_steps"]


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets or sources:
        torch._foreach_copy_(targets, sources)

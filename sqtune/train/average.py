"""The average of a training's weights (EMA): what is evaluated, stored and delivered, where wanted.

After each step: average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n))
after n steps, as in TensorFlow's ExponentialMovingAverage: so the random weights of the start are
forgotten whatever the decay and however short the training. The average goes on through the stages
of the ratio. Batch norm's running statistics are not averaged but taken anew at each epoch's end:
the average, quantized, has other codes than the weights that they were collected with. (On digits,
ternary and binary, at constant learning rates, that halved the error of averaged statistics.)

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
    """The average of a model's weights, with statistics, and of what quantization learns.

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
        self.is_kept = decay > 0
        self._weights = [parameter.detach() for parameter in model.parameters()] if decay else []
        self._buffers = list(model.buffers()) if decay else []
        self._averages = [value.clone() for value in self._weights]
        self._statistics = [value.clone() for value in self._buffers]
        self._learned = [parameter.detach() for parameter in learned]
        self._learned_averages: list[Tensor] = []

    @torch.no_grad()
    def step(self, *, quantized: bool) -> None:
        """Take the weights after an optimizer's step into the average.

        Args:
            quantized: Whether anything was quantized at that step.
        """
        if not self.is_kept:
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

    @torch.no_grad()
    def take_statistics(self) -> None:
        """Take the model's batch norm statistics, as they stand, for those of the average."""
        for value, buffer in zip(self._statistics, self._buffers, strict=True):
            value.copy_(buffer)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the averages for the block, and its own weights back after it."""
        if not self.is_kept:
            yield
            return
        joined = self._learned[: len(self._learned_averages)]
        own = [*self._weights, *joined, *self._buffers]
        kept = [value.clone() for value in own]
        try:
            _copy(own, [*self._averages, *self._learned_averages, *self._statistics])
            yield
        finally:
            _copy(own, kept)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the averages; None where there are none."""
        if not self.is_kept:
            return None
        return {
            "num_steps": self._num_steps,
            "weights": list(self._averages),
            "statistics": list(self._statistics),
            "learned": list(self._learned_averages),
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take up what `state_dict` returned.

        Raises:
            KeyError, RuntimeError or ValueError: It is another model's.
        """
        if state is None:
            return
        learned = [torch.empty_like(value) for value in self._learned[: len(state["learned"])]]
        _copy(self._averages, state["weights"])
        _copy(self._statistics, state["statistics"])
        _copy(learned, state["learned"])
        self._learned_averages, self._num_steps = learned, state["num_steps"]


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)

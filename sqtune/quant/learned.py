"""Learned steps (LSQ): the scales of some layers are trained by gradient beside the weights.

Source: Esser et al., "Learned Step Size Quantization", ICLR 2020. Here each row has a step of its
own, the grid is that of `Uniform` (or three levels), and Stochastic Quantization works on top: rows
that stay real pass their gradient straight and give none to their step.

The gradient of a step follows from the weight's own, so nothing is added to the graph: a hook on
the weight takes it as it arrives. dQ/ds = level - w/s inside the grid, the end's level outside of
it, times 1 / sqrt(K * top).

Shape names: O rows, K weights in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from sqtune.errors import QuantizationError
from sqtune.quant.layers import Layer, from_rows, to_rows
from sqtune.quant.quantizers import first_steps, grid_of
from sqtune.quant.spec import LearnedTernary, LearnedUniform

Rows = Callable[[], Mapping[str, Tensor]]


class LearnedSteps:
    """The steps of all layers that learn theirs.

    They start from the weights as they are when a row is quantized in training for the first time
    (after a float warm-up, if there is one), unless they were loaded.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        kinds = LearnedUniform | LearnedTernary
        self._layers = [layer for layer in layers if isinstance(layer.quantizer, kinds)]
        self.steps = {layer.name: nn.Parameter(_first(layer)) for layer in self._layers}
        self.started = False

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the steps ready for a block: first values, and at least 0 whatever an optimizer did.

        A grid is symmetric, so a step below 0 is as good as its absolute value.
        """
        for layer in self._layers:
            step_O, weight = self.steps[layer.name], layer.weight
            if (step_O.dtype, step_O.device) != (weight.dtype, weight.device):
                raise QuantizationError(
                    f"{layer.name} became {weight.dtype} on {weight.device}, its learned steps are "
                    f"{step_O.dtype} on {step_O.device}. Convert and move a model before you make "
                    "its StochasticQuantization."
                )
            if not self.started:
                step_O.copy_(_first(layer))
            step_O.abs_()

    @contextmanager
    def taking_gradients(self, latent: Rows, masks: Rows) -> Iterator[None]:
        """Give the steps their gradients in every backward pass of the block.

        Args:
            latent: Gives the latent weights as rows, by layer.
            masks: Gives the rows (or single weights) that are quantized, by layer.
        """
        if not self._layers:
            yield
            return
        w, mask = latent(), masks()
        handles = []
        try:
            for layer in self._layers:
                if layer.weight.requires_grad:
                    taken = self._hook(layer, w[layer.name], mask[layer.name])
                    handles.append(layer.weight.register_hook(taken))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: Layer, w_OK: Tensor, mask_M: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what takes a weight's gradient, feeds the steps and returns the weight's own."""
        assert isinstance(layer.quantizer, LearnedUniform | LearnedTernary)
        grid, step_O = grid_of(layer.quantizer), self.steps[layer.name]
        low, top = grid.low + grid.offset, grid.top + grid.offset
        share = (w_OK.shape[1] * top) ** -0.5
        mask_OK = mask_M.reshape(w_OK.shape[0], -1).to(w_OK.dtype)

        @torch.no_grad()
        def take(gradient: Tensor) -> Tensor:
            gradient_OK = to_rows(gradient, layer.groups)
            scaled_OK = w_OK / torch.where(step_O > 0, step_O, 1.0)[:, None]
            clamped_OK = scaled_OK.clamp(low, top)
            inside_OK = torch.eq(scaled_OK, clamped_OK, out=scaled_OK)  # 1 or 0
            slope_OK = clamped_OK.sub(grid.offset).round_().clamp_(grid.low, grid.top)
            slope_OK.add_(grid.offset).sub_(clamped_OK.mul_(inside_OK))
            of_step_O = slope_OK.mul_(gradient_OK).mul_(mask_OK).sum(dim=1).mul_(share)
            step_O.grad = of_step_O if step_O.grad is None else step_O.grad + of_step_O
            # A quantized weight beyond the grid gets no gradient (LSQ, eq. 5).
            kept_OK = inside_OK.mul_(mask_OK).add_(1 - mask_OK).mul_(gradient_OK)
            return from_rows(kept_OK, layer.weight, layer.groups)

        return take

    def state_dict(self) -> dict[str, Any]:
        """Return the steps, and whether they have been used in training."""
        steps = {name: step_O.detach().clone() for name, step_O in self.steps.items()}
        return {"started": self.started, "steps": steps}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.started = state["started"]
        for name, step_O in self.steps.items():
            step_O.copy_(state["steps"][name])


@torch.no_grad()
def average_gradients(
    parameters: Sequence[nn.Parameter], group: distributed.ProcessGroup | None
) -> None:
    """Average the gradients of what is learned over the processes of a group."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if group is None or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat /= distributed.get_world_size(group)
    distributed.all_reduce(flat, group=group)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, average in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(average.view(gradient.shape))


def _first(layer: Layer) -> Tensor:
    assert isinstance(layer.quantizer, LearnedUniform | LearnedTernary)
    return first_steps(to_rows(layer.weight.detach(), layer.groups), layer.quantizer)

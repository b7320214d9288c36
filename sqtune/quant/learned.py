"""Learned steps (LSQ): the scales of some layers are trained by gradient beside the weights.

Source: Esser et al., "Learned Step Size Quantization", ICLR 2020. Here each row has a step of its
own, the grid is that of `Uniform` (or three levels), and Stochastic Quantization works on top: rows
that stay real pass their gradient straight and give none to their step.

The gradient of a step follows from the weight's own, so nothing is added to the graph:
dQ/ds = level - w/s inside the grid, the end's level outside of it, times 1 / sqrt(K * top).

Shape names: O rows, K weights in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sqtune.quant.layers import Layer, from_rows, to_rows
from sqtune.quant.quantizers import first_steps, grid_of
from sqtune.quant.spec import LearnedTernary, LearnedUniform


class LearnedSteps:
    """The steps of all layers that learn theirs, and the weights' gradients from before a block.

    They start from the weights as they are when a row is quantized in training for the first time
    (after a float warm-up, if there is one), unless they were loaded.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = [
            layer
            for layer in layers
            if isinstance(layer.quantizer, LearnedUniform | LearnedTernary)
        ]
        self.steps = {layer.name: nn.Parameter(_first(layer)) for layer in self._layers}
        self._started = False
        self._gradients: dict[str, Tensor | None] = {}

    @torch.no_grad()
    def prepare(self, *, training: bool) -> None:
        """Make the steps ready for a block: first values, and above 0 whatever an optimizer did."""
        for layer in self._layers:
            step_O = self.steps[layer.name]
            if not self._started:
                step_O.copy_(_first(layer))
            step_O.clamp_(min=torch.finfo(step_O.dtype).tiny)
        self._started = self._started or training
        if training:
            gradients = {layer.name: layer.weight.grad for layer in self._layers}
            self._gradients = {
                name: None if gradient is None else gradient.clone()
                for name, gradient in gradients.items()
            }

    @torch.no_grad()
    def take_gradients(self, masks: Mapping[str, Tensor]) -> None:
        """Give the steps the gradients of the block that just ended; the weights are latent again.

        Args:
            masks: Rows (or single weights) that were quantized, by layer.
        """
        for layer in self._layers:
            before, after = self._gradients.pop(layer.name, None), layer.weight.grad
            if after is None:  # no backward pass, or a weight that is not trained
                continue
            of_block = after if before is None else after - before
            self._take(layer, masks[layer.name], to_rows(of_block, layer.groups))

    def _take(self, layer: Layer, mask_M: Tensor, gradient_OK: Tensor) -> None:
        assert isinstance(layer.quantizer, LearnedUniform | LearnedTernary)
        grid, step_O = grid_of(layer.quantizer), self.steps[layer.name]
        w_OK = to_rows(layer.weight, layer.groups)
        low, top = grid.low + grid.offset, grid.top + grid.offset
        scaled_OK = w_OK / step_O[:, None]
        level_OK = (scaled_OK - grid.offset).round().clamp(grid.low, grid.top) + grid.offset
        inside_OK = (scaled_OK >= low) & (scaled_OK <= top)
        mask_OK = mask_M.reshape(w_OK.shape[0], -1)
        slope_OK = torch.where(inside_OK, level_OK - scaled_OK, level_OK)
        share = (w_OK.shape[1] * top) ** -0.5
        of_step_O = (gradient_OK * slope_OK).mul_(mask_OK).sum(dim=1).mul_(share)
        step_O.grad = of_step_O if step_O.grad is None else step_O.grad + of_step_O
        # A weight beyond the grid gets no gradient (LSQ, eq. 5).
        beyond_OK = gradient_OK * (mask_OK & ~inside_OK)
        assert layer.weight.grad is not None
        layer.weight.grad -= from_rows(beyond_OK, layer.weight, layer.groups)

    def state_dict(self) -> dict[str, Any]:
        """Return the steps, and whether they have been used in training."""
        return {
            "started": self._started,
            "steps": {name: step_O.detach().clone() for name, step_O in self.steps.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._started = state["started"]
        for name, step_O in self.steps.items():
            step_O.copy_(state["steps"][name])


def _first(layer: Layer) -> Tensor:
    assert isinstance(layer.quantizer, LearnedUniform | LearnedTernary)
    return first_steps(to_rows(layer.weight.detach(), layer.groups), layer.quantizer)

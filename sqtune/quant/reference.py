"""The plain step, one layer after the other: what `sqtune.quant.kernels` has to equal.

It also does what the fast one does not: draws of single weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sqtune.quant.layers import Layer, from_rows, refuse_not_finite, to_rows
from sqtune.quant.quantizers import quantize_rows, row_errors
from sqtune.quant.selection import num_drawn, select_rows
from sqtune.quant.spec import Selection


class PerLayer:
    """Gives each layer hybrid or quantized weights and its latent ones back.

    Args:
        layers: What is quantized.
        selection: How rows are chosen.
        generator: Source of the draws.
        steps: Learned steps by layer.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        selection: Selection,
        generator: torch.Generator,
        steps: Mapping[str, Tensor],
    ) -> None:
        self._layers, self._selection, self._steps = layers, selection, steps
        self.generator = generator
        self._latent: dict[str, Tensor] = {}
        self._masks: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def save(self) -> None:
        """Copy the latent weights aside."""
        for layer in self._layers:
            kept = self._latent.get(layer.name)
            weight = layer.weight.detach()
            if kept is None or (kept.shape, kept.dtype, kept.device, kept.stride()) != (
                weight.shape,
                weight.dtype,
                weight.device,
                weight.stride(),
            ):
                kept = self._latent[layer.name] = torch.empty_like(weight)
            kept.copy_(weight)

    def restore(self) -> None:
        """Put the latent weights back."""
        for layer in self._layers:
            layer.weight.copy_(self._latent[layer.name])

    def write_quantized(self) -> None:
        """Give every layer quantized weights."""
        self.refuse_not_finite()
        for layer in self._layers:
            q_OK = self._quantized(layer, to_rows(layer.weight, layer.groups))
            layer.weight.copy_(from_rows(q_OK, layer.weight, layer.groups))

    def write_hybrid(self, ratio: float | None, *, count: bool) -> None:
        """Give every layer hybrid weights: rows drawn at `ratio`; None keeps the last draw.

        `count` adds them to the `counts`.
        """
        self.refuse_not_finite()
        pairs = []
        for layer in self._layers:
            w_OK = to_rows(layer.weight, layer.groups)
            pairs.append((w_OK, self._quantized(layer, w_OK)))
        if ratio is not None:
            self._masks = self._draw(pairs, ratio)
        for layer, (w_OK, q_OK) in zip(self._layers, pairs, strict=True):
            mask_OK = self._masks[layer.name].reshape(w_OK.shape[0], -1)
            hybrid_OK = torch.where(mask_OK, q_OK, w_OK)
            layer.weight.copy_(from_rows(hybrid_OK, layer.weight, layer.groups))
            if count:
                share_O = mask_OK.float().mean(dim=1)
                self._counts[layer.name] = self._counts.get(layer.name, 0) + share_O

    def _draw(self, pairs: Sequence[tuple[Tensor, Tensor]], ratio: float) -> dict[str, Tensor]:
        """Draw the rows of all layers, from one draw of noise for those that need any."""
        by_element = self._selection.granularity == "element"
        errors = []
        for w_OK, q_OK in pairs:
            w_MK, q_MK = (m.reshape(-1, 1) if by_element else m for m in (w_OK, q_OK))
            errors.append(row_errors(w_MK, q_MK))
        counts = [num_drawn(error_M.numel(), ratio, self._selection) for error_M in errors]
        noise = torch.rand(sum(counts), generator=self.generator, device=errors[0].device).split(
            counts
        )
        return {
            layer.name: select_rows(error_M, ratio, self._selection, noise_M)
            for layer, error_M, noise_M in zip(self._layers, errors, noise, strict=True)
        }

    def _quantized(self, layer: Layer, w_OK: Tensor) -> Tensor:
        return quantize_rows(w_OK, layer.quantizer, self._steps.get(layer.name)).values()

    def refuse_not_finite(self) -> None:
        """Raise QuantizationError where a weight is not finite."""
        refuse_not_finite(self._layers, self._steps)

    def latent(self) -> dict[str, Tensor]:
        """Return the latent weights as rows, by layer, inside a block."""
        return {
            layer.name: to_rows(self._latent[layer.name], layer.groups) for layer in self._layers
        }

    def masks(self) -> dict[str, Tensor]:
        """Return which rows were quantized at the last draw (bool), by layer; empty before one."""
        return {name: mask_M.clone() for name, mask_M in self._masks.items()}

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Take up what `masks` returned."""
        self._masks = self._placed(masks)

    def has_masks(self) -> bool:
        """Tell whether there is a last draw."""
        return bool(self._masks)

    def counts(self) -> dict[str, Tensor]:
        """Return how often each row was quantized since `reset_counts`, by layer (float32)."""
        return {name: count_O.clone() for name, count_O in self._counts.items()}

    def set_counts(self, counts: Mapping[str, Tensor]) -> None:
        """Take up what `counts` returned; an empty one starts anew."""
        self._counts = self._placed(counts)

    def _placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies beside their weights."""
        weights = {layer.name: layer.weight for layer in self._layers}
        return {name: value.to(weights[name].device, copy=True) for name, value in tensors.items()}

"""How layers are stacked: those with equally many rows of equal length make one matrix.

Shape names: R rows of a stack, or of the model; K weights in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from sqtune.quant.layers import Layer, row_view
from sqtune.quant.spec import Quantizer


@dataclass(frozen=True, slots=True)
class Vectors:
    """One number a row, in the weights' dtype; views of a part see what is written to the whole.

    Attributes:
        norm_R: Sum of |w|.
        error_R: Quantization error.
        mask_R: 1 where the row is quantized, 0 where it stays real.
        real_R: 1 - mask_R.
    """

    norm_R: Tensor
    error_R: Tensor
    mask_R: Tensor
    real_R: Tensor

    @classmethod
    def zeros(cls, num_rows: int, like: Tensor) -> Vectors:
        """Return new ones of a tensor's dtype and device."""
        return cls(*(like.new_zeros(num_rows) for _ in range(4)))

    def part(self, rows: slice) -> Vectors:
        """Return views of some rows."""
        return Vectors(self.norm_R[rows], self.error_R[rows], self.mask_R[rows], self.real_R[rows])


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers of one shape and one quantizer.

    Attributes:
        layers: In the model's order.
        quantizer: Theirs.
        num_rows: M, of each.
        first: Where its rows begin in the vectors of all rows.
        latent_RK: The persistent copy of the latent weights.
        kept: Views of `latent_RK`, one a layer, shaped like `weights`.
        weights: Views of the parameters, rows first.
        vectors: Its part of the vectors of all rows.
    """

    layers: tuple[Layer, ...]
    quantizer: Quantizer
    num_rows: int
    first: int
    latent_RK: Tensor
    kept: list[Tensor]
    weights: list[Tensor]
    vectors: Vectors

    @property
    def rows(self) -> slice:
        """Where its rows lie in the vectors of all rows."""
        return slice(self.first, self.first + len(self.latent_RK))

    def split(self, values_RK: Tensor) -> list[Tensor]:
        """Return views of stacked values, one a layer, shaped like `weights`."""
        parts = values_RK.split(self.num_rows)
        return [part.view(kept.shape) for part, kept in zip(parts, self.kept, strict=True)]


def stack_layers(layers: Sequence[Layer], vectors: Vectors) -> list[Stack]:
    """Stack layers of one dtype and device; equal numbers of rows stand beside each other."""
    stacks: list[Stack] = []
    first = 0
    for _, members in groupby(sorted(layers, key=_shape), key=_shape):
        stacks.append(_stack(tuple(members), first, vectors))
        first = stacks[-1].rows.stop
    return stacks


def _shape(layer: Layer) -> tuple[int, int, str]:
    """Return what layers of one stack share, rows first: equal ones stand beside each other."""
    return layer.num_rows, layer.weight.numel() // layer.num_rows, repr(layer.quantizer)


def _stack(layers: tuple[Layer, ...], first: int, vectors: Vectors) -> Stack:
    num_rows, row_length, _ = _shape(layers[0])
    weight = layers[0].weight
    latent_RK = torch.empty(
        len(layers) * num_rows, row_length, dtype=weight.dtype, device=weight.device
    )
    views = [row_view(layer.weight.detach(), layer.groups) for layer in layers]
    parts = latent_RK.split(num_rows)
    kept = [part.view(view.shape) for part, view in zip(parts, views, strict=True)]
    part = vectors.part(slice(first, first + len(latent_RK)))
    return Stack(layers, layers[0].quantizer, num_rows, first, latent_RK, kept, views, part)

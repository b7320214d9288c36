"""How layers are stacked: those with rows of equal length and one quantizer make one matrix.

Shape names: R rows of a stack, or of the model; K weights in a row; L layers of M rows each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import torch
from torch import Tensor

from sqtune.quant.layers import Layer, row_view
from sqtune.quant.spec import Quantizer


@dataclass(frozen=True, slots=True)
class Vectors:
    """One number a row, R x 1, in the weights' dtype; a part sees what is written to the whole.

    Attributes:
        norm: Sum of |w|.
        error: Quantization error.
        scale: Of the quantized row.
        drawn_scale: The same where the row is quantized, 0 where it stays real.
        threshold: Below which a weight is zero, where the quantizer is ternary.
        mask: 1 where the row is quantized, 0 where it stays real.
        real: 1 - mask.
    """

    norm: Tensor
    error: Tensor
    scale: Tensor
    drawn_scale: Tensor
    threshold: Tensor
    mask: Tensor
    real: Tensor

    @classmethod
    def zeros(cls, num_rows: int, like: Tensor) -> Vectors:
        """Return new ones of a tensor's dtype and device."""
        return cls(*(like.new_zeros(num_rows, 1) for _ in fields(cls)))

    def part(self, rows: slice) -> Vectors:
        """Return views of some rows."""
        return Vectors(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers whose rows are equally long, with one quantizer.

    Attributes:
        layers: In the model's order.
        quantizer: Theirs.
        first: Where its rows begin in the vectors of all rows.
        latent_RK: The persistent copy of the latent weights.
        kept: Views of `latent_RK`, one a layer, shaped like `weights`.
        weights: Views of the parameters, rows first: matrices where memory allows it.
        vectors: Its part of the vectors of all rows.
    """

    layers: tuple[Layer, ...]
    quantizer: Quantizer
    first: int
    latent_RK: Tensor
    kept: list[Tensor]
    weights: list[Tensor]
    vectors: Vectors

    def split(self, values_RK: Tensor) -> list[Tensor]:
        """Return views of stacked values, one a layer, shaped like `weights`."""
        parts = values_RK.split([layer.num_rows for layer in self.layers])
        return [
            part if kept.dim() == 2 else part.view(kept.shape)
            for part, kept in zip(parts, self.kept, strict=True)
        ]


def stack_layers(layers: Sequence[Layer], vectors: Vectors) -> list[Stack]:
    """Stack layers of one dtype and device."""
    stacks: list[Stack] = []
    first = 0
    for _, members in groupby(sorted(layers, key=_kind), key=_kind):
        stacks.append(_stack(tuple(members), first, vectors))
        first += len(stacks[-1].latent_RK)
    return stacks


def _kind(layer: Layer) -> tuple[int, str]:
    return layer.weight.numel() // layer.num_rows, repr(layer.quantizer)


def _stack(layers: tuple[Layer, ...], first: int, vectors: Vectors) -> Stack:
    weight = layers[0].weight
    sizes = [layer.num_rows for layer in layers]
    latent_RK = weight.detach().new_empty(sum(sizes), _kind(layers[0])[0])
    views = [row_view(layer.weight.detach(), layer.groups) for layer in layers]
    views = [v.view(n, -1) if v.is_contiguous() else v for v, n in zip(views, sizes, strict=True)]
    parts = latent_RK.split(sizes)
    kept = [part.view(view.shape) for part, view in zip(parts, views, strict=True)]
    part = vectors.part(slice(first, first + len(latent_RK)))
    return Stack(layers, layers[0].quantizer, first, latent_RK, kept, views, part)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The rows of all layers by the layers' numbers of rows: each block is a matrix, L x M.

    Attributes:
        order: Which row of the vectors of all rows stands at each place of the blocks.
        back: The inverse.
        layer: For each row of the vectors of all rows, which of `layers` it belongs to.
        sizes: L and M of each block.
        layers: All layers, in the blocks' order.
    """

    order: Tensor
    back: Tensor
    layer: Tensor
    sizes: tuple[tuple[int, int], ...]
    layers: tuple[Layer, ...]

    @classmethod
    def of(
        cls, layers: Sequence[Layer], first_rows: Mapping[str, int], device: torch.device
    ) -> Blocks:
        """Return the blocks of layers whose rows begin at `first_rows` in the vectors."""
        ordered = sorted(layers, key=lambda layer: layer.num_rows)
        rows = [
            torch.arange(first_rows[layer.name], first_rows[layer.name] + layer.num_rows)
            for layer in ordered
        ]
        order = torch.cat(rows)
        groups = groupby(ordered, key=lambda layer: layer.num_rows)
        sizes = tuple((len(list(members)), num_rows) for num_rows, members in groups)
        back = order.argsort()
        numbers = torch.tensor([number for number, part in enumerate(rows) for _ in part])
        return cls(
            order.to(device), back.to(device), numbers[back].to(device), sizes, tuple(ordered)
        )

    def split(self, ordered: Tensor) -> list[Tensor]:
        """Return a vector in the blocks' order as matrices, L x M each."""
        parts = ordered.split([num * num_rows for num, num_rows in self.sizes])
        return [part.view(size) for part, size in zip(parts, self.sizes, strict=True)]

    def layer_sums(self, values: Tensor) -> Tensor:
        """Return for each row, R x 1, the sum of its layer's rows."""
        blocks = self.split(values[:, 0].index_select(0, self.order))
        sums = torch.cat([block.sum(dim=1) for block in blocks])
        return sums.index_select(0, self.layer)[:, None]

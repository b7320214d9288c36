"""What is delivered: a layer's weights as integer codes and one scale per row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sqtune.quant.layers import Layer, from_rows, to_rows
from sqtune.quant.quantizers import QuantizedRows, quantize_rows


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """One layer's weights as integers: weight == (codes + offset) * scale, bit for bit.

    Attributes:
        codes: int8, in the weight's own shape.
        scale_O: One scale per row.
        offset: 0.5 for the 2-bit grid, otherwise 0.
        groups: 0 where the weight's first dimension is the rows'; for a transposed convolution its
            number of groups (a row is an output channel there too).
    """

    codes: Tensor
    scale_O: Tensor
    offset: float
    groups: int = 0

    def values(self) -> Tensor:
        """Return the quantized weights in the weight's own shape."""
        rows = QuantizedRows(to_rows(self.codes, self.groups), self.scale_O, self.offset)
        return from_rows(rows.values(), self.codes, self.groups)


def freeze_layer(layer: Layer, step_O: Tensor | None) -> FrozenLayer:
    """Return a layer's codes and scales; `step_O` are its learned steps, if it has any."""
    weight = layer.weight.detach()
    rows = quantize_rows(to_rows(weight, layer.groups), layer.quantizer, step_O)
    codes = from_rows(rows.codes_OK, weight, layer.groups)
    return FrozenLayer(codes, rows.scale_O.detach().clone(), rows.offset, layer.groups)

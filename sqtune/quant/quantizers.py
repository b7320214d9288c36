"""Quantizers: the rows of a weight matrix -> integer codes and one scale per row.

Shape names: O rows (output filters or neurons), K weights in a row.
A weight's value is (code + offset) * scale; only the 2-bit grid has an offset other than 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sqtune.quant.spec import Binary, Quantizer, Ternary, Uniform

TERNARY_FACTOR = 0.7  # TWN, section 2.3: the threshold is about 0.7 of the mean absolute weight


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """Codes and scales of one weight matrix.

    Attributes:
        codes_OK: Integer codes, int8, O x K.
        scale_O: One scale per row, in the weights' dtype, at least 0.
        offset: Added to every code before scaling: 0.5 for the 2-bit grid, otherwise 0.
    """

    codes_OK: Tensor
    scale_O: Tensor
    offset: float = 0.0

    def values(self) -> Tensor:
        """Return the quantized weights, O x K, in the scales' dtype."""
        codes_OK = self.codes_OK.to(self.scale_O.dtype)
        if self.offset:
            codes_OK = codes_OK + self.offset
        return codes_OK * self.scale_O[:, None]


def quantize_rows(w_OK: Tensor, quantizer: Quantizer) -> QuantizedRows:
    """Quantize each row of a floating-point matrix (O x K).

    Raises:
        TypeError: `quantizer` is Float, which has no codes.

    >>> rows = quantize_rows(torch.tensor([[1.0, -3.0, 0.0, 2.0]]), Binary())
    >>> rows.codes_OK.tolist(), rows.scale_O.tolist()
    ([[1, -1, 1, 1]], [1.5])
    """
    match quantizer:
        case Binary():
            return _binary(w_OK)
        case Ternary():
            return _ternary(w_OK, quantizer)
        case Uniform():
            return _uniform(w_OK, quantizer)
        case _:
            raise TypeError(f"{type(quantizer).__name__} has no codes")


def _binary(w_OK: Tensor) -> QuantizedRows:
    codes_OK = torch.where(w_OK >= 0, 1, -1).to(torch.int8)  # sign(0) = +1
    return QuantizedRows(codes_OK, w_OK.abs().mean(dim=1))


def _ternary(w_OK: Tensor, quantizer: Ternary) -> QuantizedRows:
    abs_OK = w_OK.abs()
    match quantizer.threshold:
        case "layer_centred":
            threshold = TERNARY_FACTOR * (w_OK - w_OK.mean()).abs().mean()
        case "layer":
            threshold = TERNARY_FACTOR * abs_OK.mean()
        case "row":
            threshold = TERNARY_FACTOR * abs_OK.mean(dim=1, keepdim=True)
    kept_OK = abs_OK > threshold
    count_O = kept_OK.sum(dim=1)
    scale_O = (abs_OK * kept_OK).sum(dim=1) / count_O.clamp(min=1)
    return QuantizedRows((w_OK.sign() * kept_OK).to(torch.int8), scale_O)


def _uniform(w_OK: Tensor, quantizer: Uniform) -> QuantizedRows:
    offset = 0.5 if quantizer.bits == 2 else 0.0
    top = 2 ** (quantizer.bits - 1) - 1  # the largest code
    low = -top - (1 if quantizer.bits == 2 else 0)

    def nearest_codes(scale_O: Tensor) -> Tensor:
        safe_O = torch.where(scale_O > 0, scale_O, 1.0)
        return (w_OK / safe_O[:, None] - offset).round().clamp(low, top)

    def squared_error(codes_OK: Tensor, scale_O: Tensor) -> Tensor:
        return ((codes_OK + offset) * scale_O[:, None] - w_OK).square().sum(dim=1)

    scale_O = w_OK.abs().amax(dim=1) / (top + offset)
    best_scale_O, best_codes_OK = scale_O, nearest_codes(scale_O)
    best_error_O, codes_OK = squared_error(best_codes_OK, best_scale_O), best_codes_OK
    for _ in range(quantizer.scale_steps):
        levels_OK = codes_OK + offset
        energy_O = levels_OK.square().sum(dim=1)
        scale_O = (levels_OK * w_OK).sum(dim=1) / torch.where(energy_O > 0, energy_O, 1.0)
        codes_OK = nearest_codes(scale_O)
        error_O = squared_error(codes_OK, scale_O)
        better_O = error_O < best_error_O
        best_scale_O = torch.where(better_O, scale_O, best_scale_O)
        best_codes_OK = torch.where(better_O[:, None], codes_OK, best_codes_OK)
        best_error_O = torch.where(better_O, error_O, best_error_O)
    return QuantizedRows(best_codes_OK.to(torch.int8), best_scale_O, offset)


def row_errors(w_MK: Tensor, q_MK: Tensor) -> Tensor:
    """Return each row's relative quantization error, ||w - q||_1 / ||w||_1 (the paper, eq. 4).

    Where a row of weights is all zero, its error is 0 if the quantized row is zero too, else 1.

    >>> row_errors(torch.tensor([[1.0, -3.0], [0.0, 0.0]]), torch.tensor([[2.0, -2.0], [0.0, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    norm_M = w_MK.abs().sum(dim=1)
    error_M = (w_MK - q_MK).abs().sum(dim=1)
    of_zero_M = (q_MK != 0).any(dim=1).to(w_MK.dtype)
    return torch.where(norm_M > 0, error_M / torch.where(norm_M > 0, norm_M, 1.0), of_zero_M)

"""Quantizers: the rows of a weight matrix -> integer codes and one scale per row.

The plain version, one layer at a time: what `sqtune.quant.kernels` does for all layers at once has
to equal it, bit for bit on CPU. Sums go over the rows first, then over their sums, in both.

Shape names: O rows (output filters or neurons), K weights in a row.
A weight's value is (code + offset) * scale; only the 2-bit grid has an offset other than 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sqtune.quant.spec import (
    Binary,
    Learned,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
)

TERNARY_FACTOR = 0.7  # TWN, section 2.3: the threshold is about 0.7 of the mean absolute weight


@dataclass(frozen=True, slots=True)
class Grid:
    """A uniform grid: codes from `low` to `top`, each with `offset` added before scaling."""

    low: int
    top: int
    offset: float


def grid_of(quantizer: Uniform | Learned) -> Grid:
    """Return the grid of a uniform or learned quantizer.

    >>> grid_of(Uniform(bits=2)), grid_of(Uniform(bits=4))
    (Grid(low=-2, top=1, offset=0.5), Grid(low=-7, top=7, offset=0.0))
    """
    if isinstance(quantizer, LearnedTernary):
        return Grid(-1, 1, 0.0)
    top = 2 ** (quantizer.bits - 1) - 1
    return Grid(-top - 1, top, 0.5) if quantizer.bits == 2 else Grid(-top, top, 0.0)


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


def quantize_rows(
    w_OK: Tensor, quantizer: Quantizer, step_O: Tensor | None = None
) -> QuantizedRows:
    """Quantize each row of a floating-point matrix (O x K).

    Args:
        w_OK: The matrix.
        quantizer: To what.
        step_O: The learned steps (at least 0) where the quantizer is a learned one; by default
            those it starts from.

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
            grid = grid_of(quantizer)
            scale_O = fitted_scales(w_OK, grid, quantizer.scale_steps)
        case LearnedUniform() | LearnedTernary():
            grid = grid_of(quantizer)
            scale_O = first_steps(w_OK, quantizer) if step_O is None else step_O
        case _:
            raise TypeError(f"{type(quantizer).__name__} has no codes")
    codes_OK = nearest_codes(w_OK, scale_O, grid)
    return QuantizedRows(codes_OK.to(torch.int8), scale_O, grid.offset)


def _binary(w_OK: Tensor) -> QuantizedRows:
    codes_OK = torch.where(w_OK >= 0, 1, -1).to(torch.int8)  # sign(0) = +1
    return QuantizedRows(codes_OK, w_OK.abs().sum(dim=1) / w_OK.shape[1])


def _ternary(w_OK: Tensor, quantizer: Ternary) -> QuantizedRows:
    abs_OK = w_OK.abs()
    match quantizer.threshold:
        case "layer_centred":
            centre = w_OK.sum(dim=1).sum() / w_OK.numel()
            threshold = TERNARY_FACTOR * ((w_OK - centre).abs().sum(dim=1).sum() / w_OK.numel())
        case "layer":
            threshold = TERNARY_FACTOR * (abs_OK.sum(dim=1).sum() / w_OK.numel())
        case "row":
            threshold = TERNARY_FACTOR * (abs_OK.sum(dim=1, keepdim=True) / w_OK.shape[1])
    kept_OK = abs_OK > threshold
    count_O = kept_OK.sum(dim=1)
    exact = torch.promote_types(w_OK.dtype, torch.float32)  # 16 bits cannot count past 256
    scale_O = (abs_OK * kept_OK).sum(dim=1) / count_O.clamp(min=1).to(exact)
    scale_O = scale_O.to(w_OK.dtype)
    return QuantizedRows((w_OK.sign() * kept_OK).to(torch.int8), scale_O)


def nearest_codes(w_OK: Tensor, scale_O: Tensor, grid: Grid) -> Tensor:
    """Return the code nearest to each weight, in the weights' dtype; scales are at least 0."""
    safe_O = torch.where(scale_O > 0, scale_O, 1.0)
    codes_OK = w_OK / safe_O[:, None]
    if grid.offset:
        codes_OK -= grid.offset
    return codes_OK.round_().clamp_(grid.low, grid.top)


def fitted_scales(w_OK: Tensor, grid: Grid, num_steps: int) -> Tensor:
    """Return scales of small squared error: the best of max-abs and alternating least squares."""

    def squared_error(levels_OK: Tensor, scale_O: Tensor) -> Tensor:
        return (levels_OK * scale_O[:, None]).sub_(w_OK).square_().sum(dim=1)

    scale_O = w_OK.abs().amax(dim=1) / (grid.top + grid.offset)
    levels_OK = nearest_codes(w_OK, scale_O, grid).add_(grid.offset)
    best_scale_O, best_error_O = scale_O, squared_error(levels_OK, scale_O)
    for _ in range(num_steps):
        energy_O = levels_OK.square().sum(dim=1)
        scale_O = (levels_OK * w_OK).sum(dim=1) / torch.where(energy_O > 0, energy_O, 1.0)
        levels_OK = nearest_codes(w_OK, scale_O, grid).add_(grid.offset)
        error_O = squared_error(levels_OK, scale_O)
        better_O = error_O < best_error_O
        best_scale_O = torch.where(better_O, scale_O, best_scale_O)
        best_error_O = torch.where(better_O, error_O, best_error_O)
    return best_scale_O


def first_steps(w_OK: Tensor, quantizer: Learned) -> Tensor:
    """Return where learned steps start: 2 mean|w| / sqrt(largest level) (LSQ, section 2.1)."""
    grid = grid_of(quantizer)
    mean_O = w_OK.abs().sum(dim=1) / w_OK.shape[1]
    root = math.sqrt(grid.top + grid.offset)
    return 2 * mean_O / root


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

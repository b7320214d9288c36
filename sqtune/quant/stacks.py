"""Quantized values and errors of a whole stack of layers, in few passes over memory.

Every function equals `sqtune.quant.quantizers` on each layer alone. Comparisons are written as
floats (1 or 0): on CPU that is four times faster than bools.

Shape names: R rows of the stack, K weights in a row, L layers, M rows of each: R = L * M.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sqtune.quant.quantizers import TERNARY_FACTOR, fitted_scales, grid_of, nearest_codes
from sqtune.quant.spec import (
    Binary,
    Learned,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
)


def quantize_stack(
    w_RK: Tensor,
    quantizer: Quantizer,
    num_rows: int,
    step_R: Tensor | None,
    *,
    with_error: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the quantized weights (a new tensor), and each row's sums of |w| and of |w - q|.

    Args:
        w_RK: Latent weights of L layers; left as they are.
        quantizer: To what; not Float.
        num_rows: M, rows of each layer.
        step_R: Learned steps, where the quantizer is a learned one.
        with_error: Whether the sums of |w - q| are wanted.
    """
    match quantizer:
        case Binary():
            return _binary(w_RK, with_error=with_error)
        case Ternary():
            q_RK, norm_R = _ternary(w_RK, quantizer, num_rows)
        case Uniform() | LearnedUniform() | LearnedTernary():
            q_RK, norm_R = _uniform(w_RK, quantizer, step_R)
        case _:
            raise TypeError(f"{type(quantizer).__name__} has no codes")
    if not with_error:
        return q_RK, norm_R, None
    return q_RK, norm_R, (w_RK - q_RK).abs_().sum(dim=1)


def _binary(w_RK: Tensor, *, with_error: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    values_RK = w_RK.abs()
    norm_R = values_RK.sum(dim=1)
    scale_R = norm_R / w_RK.shape[1]
    error_R = None
    if with_error:  # |w - q| is ||w| - a|, since q has the sign of w
        error_R = values_RK.sub_(scale_R[:, None]).abs_().sum(dim=1)
    torch.ge(w_RK, 0, out=values_RK)
    values_RK.mul_(2).sub_(1).mul_(scale_R[:, None])
    return values_RK, norm_R, error_R


def _ternary(w_RK: Tensor, quantizer: Ternary, num_rows: int) -> tuple[Tensor, Tensor]:
    values_RK = w_RK.abs()
    norm_R = values_RK.sum(dim=1)
    num_weights = num_rows * w_RK.shape[1]
    match quantizer.threshold:
        case "layer_centred":
            centre_L = _layer_sums(w_RK.sum(dim=1), num_rows) / num_weights
            torch.sub(_by_layer(w_RK, num_rows), centre_L, out=_by_layer(values_RK, num_rows))
            deviation_R = values_RK.abs_().sum(dim=1)
            threshold = TERNARY_FACTOR * (_layer_sums(deviation_R, num_rows) / num_weights)
        case "layer":
            threshold = TERNARY_FACTOR * (_layer_sums(norm_R, num_rows) / num_weights)
        case "row":
            num_rows = 1
            threshold = TERNARY_FACTOR * (norm_R[:, None] / w_RK.shape[1])
    w_LN, above_LN = _by_layer(w_RK, num_rows), _by_layer(values_RK, num_rows)
    torch.gt(w_LN, threshold, out=above_LN)
    below_RK = torch.empty_like(w_RK)
    torch.lt(w_LN, -threshold, out=_by_layer(below_RK, num_rows))
    exact = torch.promote_types(w_RK.dtype, torch.float32)  # 16 bits cannot count past 256
    count_R = values_RK.sum(dim=1, dtype=exact).add_(below_RK.sum(dim=1, dtype=exact))
    signs_RK = values_RK.sub_(below_RK)
    torch.mul(w_RK, signs_RK, out=below_RK)  # |w| where it is kept, else 0
    scale_R = (below_RK.sum(dim=1) / count_R.clamp_(min=1)).to(w_RK.dtype)
    return signs_RK.mul_(scale_R[:, None]), norm_R


def _uniform(
    w_RK: Tensor, quantizer: Uniform | Learned, step_R: Tensor | None
) -> tuple[Tensor, Tensor]:
    grid = grid_of(quantizer)
    if isinstance(quantizer, Uniform):
        scale_R = fitted_scales(w_RK, grid, quantizer.scale_steps)
    else:
        assert step_R is not None
        scale_R = step_R
    levels_RK = nearest_codes(w_RK, scale_R, grid).add_(grid.offset)  # and -0 becomes 0
    return levels_RK.mul_(scale_R[:, None]), w_RK.abs().sum(dim=1)


def _by_layer(values_RK: Tensor, num_rows: int) -> Tensor:
    """View a stack as one long row per layer."""
    return values_RK.view(-1, num_rows * values_RK.shape[1])


def _layer_sums(values_R: Tensor, num_rows: int) -> Tensor:
    """Return the sum over each layer's rows, L x 1."""
    return values_R.view(-1, num_rows).sum(dim=1, keepdim=True)


def relative(error_R: Tensor, norm_R: Tensor) -> Tensor:
    """Return relative errors from the sums of |w - q| and |w|.

    A row of zeros has 0 if its quantized weights are zero too, else 1.
    """
    safe_R = torch.where(norm_R > 0, norm_R, 1.0)
    return torch.where(norm_R > 0, error_R / safe_R, (error_R > 0).to(error_R.dtype))

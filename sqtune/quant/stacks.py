"""Levels, scales and errors of a whole stack of layers, in few passes over memory.

Every function equals `sqtune.quant.quantizers` on each layer alone. Comparisons are written as
floats (1 or 0): on CPU that is four times faster than bools.

Shape names: R rows of the stack, K weights in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sqtune.quant.layout import Blocks, Stack, Vectors
from sqtune.quant.quantizers import TERNARY_FACTOR, fitted_scales, grid_of, nearest_codes
from sqtune.quant.spec import Binary, LearnedTernary, LearnedUniform, Ternary, Uniform


def write_thresholds(
    stacks: Sequence[Stack], everything: Vectors, blocks: Blocks, num_weights: Tensor
) -> None:
    """Write the thresholds of ternary layers.

    Args:
        stacks: All stacks; those that are not ternary are passed over.
        everything: The vectors of all rows; `norm` is used on the way.
        blocks: Of all rows.
        num_weights: Of each row's layer, R x 1.
    """
    ternary = [stack for stack in stacks if isinstance(stack.quantizer, Ternary)]
    by_layer = [stack for stack in ternary if _threshold(stack) != "row"]
    centred = [stack for stack in by_layer if _threshold(stack) == "layer_centred"]
    for stack in centred:
        torch.sum(stack.latent_RK, dim=1, keepdim=True, out=stack.vectors.norm)
    if centred:
        centre = blocks.layer_sums(everything.norm) / num_weights
    for stack in ternary:
        if stack in centred:
            rows = slice(stack.first, stack.first + len(stack.latent_RK))
            deviation_RK = torch.sub(stack.latent_RK, centre[rows]).abs_()
        else:
            deviation_RK = stack.latent_RK.abs()
        torch.sum(deviation_RK, dim=1, keepdim=True, out=stack.vectors.norm)
    if by_layer:
        mean = blocks.layer_sums(everything.norm).div_(num_weights)
        torch.mul(mean, TERNARY_FACTOR, out=everything.threshold)
    for stack in ternary:
        if _threshold(stack) == "row":
            mean = stack.vectors.norm / stack.latent_RK.shape[1]
            torch.mul(mean, TERNARY_FACTOR, out=stack.vectors.threshold)


def _threshold(stack: Stack) -> str:
    assert isinstance(stack.quantizer, Ternary)
    return stack.quantizer.threshold


def quantize_stack(stack: Stack, step_R: Tensor | None, *, with_error: bool) -> Tensor:
    """Return the levels (a new tensor): a quantized weight is its level times its row's scale.

    Writes `norm`, `scale` and, with `with_error`, the sum of |w - q| into `error`.

    Args:
        stack: Its latent weights are quantized; thresholds are there already.
        step_R: Learned steps, where the quantizer is a learned one.
        with_error: Whether the errors are wanted.
    """
    w_RK, rows = stack.latent_RK, stack.vectors
    levels_RK = w_RK.abs()
    torch.sum(levels_RK, dim=1, keepdim=True, out=rows.norm)
    match stack.quantizer:
        case Binary():
            torch.div(rows.norm, w_RK.shape[1], out=rows.scale)
            if with_error:  # |w - q| is ||w| - a|, since q has the sign of w
                torch.sum(levels_RK.sub_(rows.scale).abs_(), dim=1, keepdim=True, out=rows.error)
            torch.ge(w_RK, 0, out=levels_RK)
            return levels_RK.mul_(2).sub_(1)
        case Ternary():
            _ternary(w_RK, levels_RK, rows)
        case Uniform() | LearnedUniform() | LearnedTernary() as quantizer:
            grid = grid_of(quantizer)
            if isinstance(quantizer, Uniform):
                step_R = fitted_scales(w_RK, grid, quantizer.scale_steps)
            assert step_R is not None
            rows.scale.copy_(step_R[:, None])
            levels_RK = nearest_codes(w_RK, step_R, grid).add_(grid.offset)  # and -0 becomes 0
        case _:
            raise TypeError(f"{type(stack.quantizer).__name__} has no codes")
    if with_error:
        errors_RK = torch.mul(levels_RK, rows.scale)
        torch.sum(torch.sub(w_RK, errors_RK, out=errors_RK).abs_(), 1, keepdim=True, out=rows.error)
    return levels_RK


def _ternary(w_RK: Tensor, levels_RK: Tensor, rows: Vectors) -> None:
    """Write levels (-1, 0 and 1) and scales."""
    torch.gt(w_RK, rows.threshold, out=levels_RK)
    below_RK = torch.empty_like(w_RK)
    torch.lt(w_RK, -rows.threshold, out=below_RK)
    exact = torch.promote_types(w_RK.dtype, torch.float32)  # 16 bits cannot count past 256
    levels_RK.sub_(below_RK)
    torch.mul(levels_RK, levels_RK, out=below_RK)  # 1 where the weight is kept
    count_R1 = below_RK.sum(dim=1, keepdim=True, dtype=exact).clamp_(min=1)
    torch.mul(w_RK, levels_RK, out=below_RK)  # |w| where it is kept, else 0
    rows.scale.copy_(below_RK.sum(dim=1, keepdim=True) / count_R1)


def relative(error: Tensor, norm: Tensor) -> Tensor:
    """Return relative errors from the sums of |w - q| and |w|.

    A row of zeros has 0 if its quantized weights are zero too, else 1.
    """
    safe = torch.where(norm > 0, norm, 1.0)
    return torch.where(norm > 0, error / safe, (error > 0).to(error.dtype))

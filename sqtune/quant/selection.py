"""Selection: which rows of a layer are quantized at a training step.

Roulette without replacement, one row at a time in proportion to what is left, is the Plackett-Luce
distribution; the top N of log-weight + Gumbel noise is an exact draw from it. So a whole draw is
one top-k, without a loop over rows and without waiting for a device.

Shape name: M rows (filters, or single weights when the granularity is "element").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from sqtune.quant.spec import Selection, SelectionFunction

EPSILON = 1e-7  # the paper, eq. 5: f = 1 / (e + epsilon)


def num_quantized(ratio: float, num_rows: int) -> int:
    """Return how many of `num_rows` rows are quantized at `ratio` (0..1): the ceiling, within 1e-9.

    >>> num_quantized(0.55, 100), num_quantized(0.5, 5), num_quantized(0.0, 5)
    (55, 3, 0)
    """
    return min(num_rows, max(0, math.ceil(ratio * num_rows - 1e-9)))


def log_weights(error_M: Tensor, function: SelectionFunction) -> Tensor:
    """Return the log (float64) of each row's weight in the draw, from its error (0 or more).

    For `error` these are the weights of the rows that stay real; an error of 0 is clamped to the
    smallest normal float32 number, an infinite one to the largest.
    """
    # float64: the weights of softmax reach 1e7, and equal rows beside such a one stay equal.
    limits = torch.finfo(torch.float32)
    error_M = error_M.double().clamp(max=limits.max)
    if function == "error":
        return error_M.clamp(min=limits.tiny).log()
    f_M = 1 / (error_M + EPSILON)
    match function:
        case "constant":
            return torch.zeros_like(error_M)
        case "linear":
            return f_M.log()
        case "softmax":
            return f_M
        case "sigmoid":
            return -functional.softplus(-f_M)


def gumbel(noise_M: Tensor) -> Tensor:
    """Return Gumbel noise (float64) from numbers that are uniform in [0, 1), float32.

    Added to float64 log-weights it is not rounded away, not even beside a softmax's 1e7: there
    its steps are 2e-9. In float32 equal rows would get unequal chances.
    """
    tiny = torch.finfo(torch.float32).tiny
    return noise_M.double().clamp_(min=tiny).log_().neg_().clamp_(min=tiny).log_().neg_()


def num_drawn(num_rows: int, ratio: float, selection: Selection) -> int:
    """Return how many numbers a draw takes: one a row, none where nothing is left to chance."""
    chance = 0 < num_quantized(ratio, num_rows) < num_rows
    return num_rows if chance and selection.strategy != "deterministic" else 0


def select_rows(
    error_M: Tensor,
    ratio: float,
    selection: Selection,
    randomness: torch.Generator | Tensor | None,
) -> Tensor:
    """Return the mask (bool, M) of the rows to quantize at `ratio` (0..1).

    `fixed` draws as `stochastic` does; keeping the partition is the caller's part.

    Args:
        error_M: Quantization error of each row, at least 0.
        ratio: Share of the rows.
        selection: How they are chosen.
        randomness: A generator, or the noise itself: `num_drawn` numbers, uniform in [0, 1),
            float32.
    """
    num_rows = error_M.numel()
    num = num_quantized(ratio, num_rows)
    if num in (0, num_rows):
        return torch.full_like(error_M, fill_value=num > 0, dtype=torch.bool)
    mask_M = torch.zeros_like(error_M, dtype=torch.bool)
    if selection.strategy == "deterministic":
        mask_M[error_M.argsort(stable=True)[:num]] = True
        return mask_M
    if isinstance(randomness, Tensor):
        noise_M = randomness
    else:
        noise_M = torch.rand(num_rows, generator=randomness, device=error_M.device)
    key_M = log_weights(error_M, selection.function) + gumbel(noise_M)
    stay_real = selection.function == "error"  # the reference code draws these
    drawn = num_rows - num if stay_real else num
    mask_M[key_M.topk(drawn, sorted=False).indices] = True
    return ~mask_M if stay_real else mask_M

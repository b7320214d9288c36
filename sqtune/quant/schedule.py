"""Ratio schedules: the share of rows that is quantized, as a function of training progress.

Progress runs from 0 to 1, so that a changed budget never changes what a schedule means. Every
schedule is non-decreasing and ends at 1 (the paper, section 3.3). `warmup` is the share of training
that is float (ratio 0) before the first ratio.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from typing import Literal

from sqtune.errors import QuantizationError

# A stage ends where its share of training does: 0.1 + 0.2 must not fall past 0.3.
ROUNDING = 1e-9


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise QuantizationError(f"warmup is a share of training in [0, 1), not {warmup}.")


def _check_progress(progress: float) -> None:
    if not 0 <= progress <= 1:
        raise QuantizationError(f"progress is in [0, 1], not {progress}.")


def _stepped(progress: float, warmup: float, ratios: tuple[float, ...]) -> float:
    """Return the ratio at `progress`, with equal stages over what the warm-up leaves."""
    _check_progress(progress)
    position = (progress - warmup) / (1 - warmup) * len(ratios)
    if position < -ROUNDING:
        return 0.0
    return ratios[min(int(position + ROUNDING), len(ratios) - 1)]


@dataclass(frozen=True, slots=True)
class Exponential:
    """Halve the float share at each stage: 0.5, 0.75, 0.875, ..., then 1 (the paper's choice).

    >>> Exponential().ratio(0.0), Exponential().ratio(0.6), Exponential().ratio(1.0)
    (0.5, 0.875, 1.0)
    """

    name: Literal["exponential"] = field(default="exponential", kw_only=True)
    num_stages: int = 4
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_stages(self.num_stages)
        _check_warmup(self.warmup)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        ratios = (*(1 - 2.0**-k for k in range(1, self.num_stages)), 1.0)
        return _stepped(progress, self.warmup, ratios)


@dataclass(frozen=True, slots=True)
class Average:
    """Equal steps: 0.25, 0.5, 0.75, 1 for four stages (the paper's "average" scheme).

    >>> [Average().ratio(p) for p in (0.0, 0.25, 0.5, 0.99)]
    [0.25, 0.5, 0.75, 1.0]
    """

    name: Literal["average"] = field(default="average", kw_only=True)
    num_stages: int = 4
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_stages(self.num_stages)
        _check_warmup(self.warmup)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        ratios = tuple(k / self.num_stages for k in range(1, self.num_stages + 1))
        return _stepped(progress, self.warmup, ratios)


@dataclass(frozen=True, slots=True)
class Linear:
    """A straight rise from `start`, after the warm-up, to 1 at `reach`.

    >>> Linear(reach=0.5).ratio(0.25), Linear(reach=0.5).ratio(0.5)
    (0.5, 1.0)
    """

    name: Literal["linear"] = field(default="linear", kw_only=True)
    start: float = 0.0
    reach: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if not 0 <= self.start <= 1:
            raise QuantizationError(f"start is a ratio in [0, 1], not {self.start}.")
        if not self.warmup < self.reach <= 1:
            raise QuantizationError(
                f"reach is the progress at which the ratio is 1: after the warm-up "
                f"({self.warmup}) and at most 1, not {self.reach}."
            )

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        _check_progress(progress)
        if progress < self.warmup - ROUNDING:
            return 0.0
        share = (progress - self.warmup) / (self.reach - self.warmup)
        return self.start + (1 - self.start) * min(max(share, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Stages:
    """Any ratios, in equal stages or from given points of progress on.

    Attributes:
        ratios: Non-decreasing, in 0..1, the last one 1. `(1.0,)` quantizes directly, as BWN and
            TWN do. A leading 0 is a float stage.
        starts: Where each stage starts, in progress (0..1); the first at 0, then increasing.
            Empty: equal stages.

    >>> Stages(ratios=(0.0, 0.5, 1.0), starts=(0.0, 0.2, 0.4)).ratio(0.3)
    0.5
    """

    name: Literal["stages"] = field(default="stages", kw_only=True)
    ratios: tuple[float, ...] = (1.0,)
    starts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ratios, starts = tuple(self.ratios), tuple(self.starts)
        if not ratios:
            raise QuantizationError("ratios is empty: give at least the last one, 1.0.")
        if not all(0 <= ratio <= 1 for ratio in ratios):
            raise QuantizationError(f"ratios are in [0, 1], not {list(ratios)}.")
        if any(later < earlier for earlier, later in itertools.pairwise(ratios)):
            raise QuantizationError(f"ratios never fall, these do: {list(ratios)}.")
        if ratios[-1] != 1:
            raise QuantizationError(
                f"the last ratio is 1 (the delivered network is quantized whole), not {ratios[-1]}."
            )
        if starts and len(starts) != len(ratios):
            raise QuantizationError(
                f"starts has one entry per ratio: {len(ratios)}, not {len(starts)}."
            )
        if starts and starts[0] != 0:
            raise QuantizationError(f"the first stage starts at 0, not {starts[0]}.")
        if starts and not all(a < b < 1 for a, b in itertools.pairwise(starts)):
            raise QuantizationError(f"starts increase and stay below 1, not {list(starts)}.")

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        if not self.starts:
            return _stepped(progress, 0.0, self.ratios)
        _check_progress(progress)
        return self.ratios[bisect.bisect_right(self.starts, progress + ROUNDING) - 1]


Schedule = Exponential | Average | Linear | Stages


def _check_stages(num_stages: int) -> None:
    if not 1 <= num_stages <= 32:
        raise QuantizationError(f"num_stages is 1 to 32, not {num_stages}.")


def epoch_ratio(schedule: Schedule, epoch: int, num_epochs: int) -> float:
    """Return the ratio (0..1) of an epoch (counted from 1): the one just before its end.

    Reading the schedule at an epoch's end makes the last epoch's ratio 1 for every schedule and
    every budget; a stage shorter than an epoch is passed over.

    Raises:
        QuantizationError: `epoch` is not in 1..num_epochs.

    >>> [epoch_ratio(Exponential(), epoch, 4) for epoch in (1, 2, 3, 4)]
    [0.5, 0.75, 0.875, 1.0]
    >>> [epoch_ratio(Linear(), epoch, 2) for epoch in (1, 2)]
    [0.5, 1.0]
    """
    if not 1 <= epoch <= num_epochs:
        raise QuantizationError(f"epochs count from 1 to {num_epochs}, not {epoch}.")
    if epoch == num_epochs:
        return 1.0
    return round(schedule.ratio(epoch / num_epochs - 2 * ROUNDING), 6)

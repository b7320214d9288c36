"""Ratio schedules: the share of rows that is quantized, as a function of training progress.

Progress runs from 0 to 1, so that a changed budget never changes what a schedule means. Every
schedule is non-decreasing and ends at 1 (the paper, section 3.3). `warmup` is the share of training
that is float (ratio 0) before the first ratio. `stage_starts` are the points of progress, from 0
on, at which a stage begins; a ratio jumps nowhere else.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from typing import Literal

from sqtune.errors import QuantizationError
from sqtune.quant.schedule_curves import (
    ROUNDING,
    CosineRise,
    Cubic,
    Linear,
    check_progress,
    check_warmup,
    starts_among,
)


def _stage(progress: float, starts: tuple[float, ...]) -> int:
    """Return which stage (from 0) is in force at `progress`."""
    check_progress(progress)
    return bisect.bisect_right(starts, progress + ROUNDING) - 1


def _equal_stages(warmup: float, num_stages: int) -> tuple[float, ...]:
    """Return where the warm-up and equal stages over what it leaves begin."""
    length = (1 - warmup) / num_stages
    return starts_among(0.0, *(warmup + stage * length for stage in range(num_stages)))


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
        check_warmup(self.warmup)

    @property
    def stage_starts(self) -> tuple[float, ...]:
        """Where the warm-up, if any, and each stage begin, in progress."""
        return _equal_stages(self.warmup, self.num_stages)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        starts = self.stage_starts
        ratios = (0.0, *(1 - 2.0**-k for k in range(1, self.num_stages)), 1.0)
        return ratios[_stage(progress, starts) - len(starts)]  # without a warm-up never the 0


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
        check_warmup(self.warmup)

    @property
    def stage_starts(self) -> tuple[float, ...]:
        """Where the warm-up, if any, and each stage begin, in progress."""
        return _equal_stages(self.warmup, self.num_stages)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        starts = self.stage_starts
        ratios = tuple(stage / self.num_stages for stage in range(self.num_stages + 1))
        return ratios[_stage(progress, starts) - len(starts)]  # without a warm-up never the 0


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

    @property
    def stage_starts(self) -> tuple[float, ...]:
        """Where each stage begins, in progress."""
        return tuple(self.starts) or _equal_stages(0.0, len(self.ratios))

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        return self.ratios[_stage(progress, self.stage_starts)]


Schedule = Exponential | Average | Linear | Cubic | CosineRise | Stages


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
    _check_epoch(epoch, num_epochs)
    if epoch == num_epochs:
        return 1.0
    return round(schedule.ratio(_just_before_end(epoch, num_epochs)), 6)


def epoch_stage(schedule: Schedule, epoch: int, num_epochs: int) -> tuple[int, int]:
    """Return the first epoch of the stage that an epoch belongs to, and how many epochs it has.

    An epoch (counted from 1) belongs to the stage in force just before its end, the last epoch to
    the last stage: the stage whose ratio `epoch_ratio` gives. A stage shorter than an epoch is
    passed over.

    Raises:
        QuantizationError: `epoch` is not in 1..num_epochs.

    >>> [epoch_stage(Exponential(num_stages=2), epoch, 5) for epoch in (1, 2, 3, 5)]
    [(1, 2), (1, 2), (3, 3), (3, 3)]
    """
    _check_epoch(epoch, num_epochs)
    starts = schedule.stage_starts

    def stage(epoch: int) -> int:
        last = epoch == num_epochs
        return len(starts) - 1 if last else _stage(_just_before_end(epoch, num_epochs), starts)

    epochs = range(1, num_epochs + 1)
    first = bisect.bisect_left(epochs, stage(epoch), key=stage)
    end = bisect.bisect_right(epochs, stage(epoch), key=stage)
    return first + 1, end - first


def _check_epoch(epoch: int, num_epochs: int) -> None:
    if not 1 <= epoch <= num_epochs:
        raise QuantizationError(f"epochs count from 1 to {num_epochs}, not {epoch}.")


def _just_before_end(epoch: int, num_epochs: int) -> float:
    """Return the progress at which an epoch reads the schedule."""
    return epoch / num_epochs - 2 * ROUNDING

"""Continuous ratio schedules: a rise from `start`, after a float warm-up, to 1 at `reach`.

What all schedules check and share stands here too; `sqtune.quant.schedule` has the stepped ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from sqtune.errors import QuantizationError

# A stage ends where its share of training does: 0.1 + 0.2 must not fall past 0.3.
ROUNDING = 1e-9


def check_warmup(warmup: float) -> None:
    """Raise QuantizationError unless a warm-up is a share of training in [0, 1)."""
    if not 0 <= warmup < 1:
        raise QuantizationError(f"warmup is a share of training in [0, 1), not {warmup}.")


def check_progress(progress: float) -> None:
    """Raise QuantizationError unless progress is in [0, 1]."""
    if not 0 <= progress <= 1:
        raise QuantizationError(f"progress is in [0, 1], not {progress}.")


def starts_among(*points: float) -> tuple[float, ...]:
    """Return the points of progress below 1, increasing, each once.

    >>> starts_among(0.0, 0.0, 0.5, 1.0)
    (0.0, 0.5)
    """
    return tuple(sorted({point for point in points if point < 1}))


def _check_rise(start: float, reach: float, warmup: float) -> None:
    check_warmup(warmup)
    if not 0 <= start <= 1:
        raise QuantizationError(f"start is a ratio in [0, 1], not {start}.")
    if not warmup < reach <= 1:
        raise QuantizationError(
            f"reach is the progress at which the ratio is 1: after the warm-up "
            f"({warmup}) and at most 1, not {reach}."
        )


def _share(progress: float, warmup: float, reach: float) -> float | None:
    """Return how much (0..1) of the way from warm-up to reach is done; None in the warm-up."""
    check_progress(progress)
    if progress < warmup - ROUNDING:
        return None
    return min(max((progress - warmup) / (reach - warmup), 0.0), 1.0)


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
        _check_rise(self.start, self.reach, self.warmup)

    @property
    def stage_starts(self) -> tuple[float, ...]:
        """Where the warm-up, the rise and what is quantized whole begin, in progress."""
        return starts_among(0.0, self.warmup, self.reach)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        share = _share(progress, self.warmup, self.reach)
        return 0.0 if share is None else self.start + (1 - self.start) * share


@dataclass(frozen=True, slots=True)
class Cubic:
    """A rise that is fast at first and slow near 1, as in gradual pruning (Zhu and Gupta, 2017).

    ratio(t) = 1 - (1 - start) * (1 - t)**3; t goes from 0 after the warm-up to 1 at `reach`.

    >>> Cubic().ratio(0.5), Cubic(reach=0.5).ratio(0.5)
    (0.875, 1.0)
    """

    name: Literal["cubic"] = field(default="cubic", kw_only=True)
    start: float = 0.0
    reach: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_rise(self.start, self.reach, self.warmup)

    @property
    def stage_starts(self) -> tuple[float, ...]:
        """Where the warm-up, the rise and what is quantized whole begin, in progress."""
        return starts_among(0.0, self.warmup, self.reach)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        share = _share(progress, self.warmup, self.reach)
        if share is None:
            return 0.0
        rest = 1 - share
        return 1 - (1 - self.start) * rest * rest * rest


@dataclass(frozen=True, slots=True)
class CosineRise:
    """Half a cosine from `start`, after the warm-up, to 1 at `reach`: slow at both ends.

    >>> CosineRise(start=0.5).ratio(0.5), CosineRise(reach=0.5).ratio(0.5)
    (0.75, 1.0)
    """

    name: Literal["cosine"] = field(default="cosine", kw_only=True)
    start: float = 0.0
    reach: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_rise(self.start, self.reach, self.warmup)

    @property
    def stage_starts(self) -> tuple[float, ...]:
        """Where the warm-up, the rise and what is quantized whole begin, in progress."""
        return starts_among(0.0, self.warmup, self.reach)

    def ratio(self, progress: float) -> float:
        """Return the ratio (0..1) at `progress` (0..1)."""
        share = _share(progress, self.warmup, self.reach)
        if share is None:
            return 0.0
        return self.start + (1 - self.start) * 0.5 * (1 - math.cos(math.pi * share))

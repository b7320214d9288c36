"""Rungs: which trials go on from a point of training at which trials are compared.

Pure Python, no state but what it is told, so that it is built anew from the study when a search
goes on. Asynchronous: a trial is compared with whatever has reached its rung by then. Source: Li et
al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from sqtune.config.options import EarlyStopping

_Key = tuple[float, int]  # (value, number of the trial)
_FIRST = -1  # below the number of every trial: equal values have the same place
_TOLERANCE = 1e-9  # 0.29 of 100 trials are 29


class Rungs:
    """What trials were worth at each rung, and which of them are among the better part.

    Comparable are trials that reached the same epoch of equally long trainings, by `early.compare`
    with the same ratio or with any; with several objectives only those that are no larger.

    Args:
        early: Which share goes on, and what is compared with what.
        several_objectives: Whether sizes matter.

    >>> rungs = Rungs(EarlyStopping(name="stop", keep=0.5, min_trials=2), several_objectives=False)
    >>> for number, error in enumerate((0.2, 0.3, 0.1, 0.25)):
    ...     rungs.add(number, 6, error, ratio=1.0, size_bytes=None, num_epochs=12)
    >>> [rungs.goes_on(number, 6) for number in range(4)]
    [True, False, True, False]
    """

    def __init__(self, early: EarlyStopping, *, several_objectives: bool) -> None:
        self.early = early
        self.several_objectives = several_objectives
        self._pools: dict[tuple[float, ...], _Pool] = {}
        self._pool_of: dict[tuple[int, int], _Pool] = {}  # by trial and epoch
        self._held: dict[int, _Pool | None] = {}  # by trial: where it waits

    def add(
        self,
        number: int,
        epoch: int,
        value: float | None,
        ratio: float,
        size_bytes: int | None,
        num_epochs: int | None = None,
    ) -> None:
        """Take note of a trial that reached a rung; it is no longer held at an earlier one.

        What was noted of the same trial and epoch before is replaced, so that an epoch may be
        reported again.

        Args:
            number: Of the trial.
            epoch: One of `early.epochs(num_epochs)`.
            value: Of the metric that is compared, less is better. None where it is not measured,
                as the quantized error in a float epoch: the trial then goes on.
            ratio: Of the epoch (0..1).
            size_bytes: Of the network; None will do for a single objective.
            num_epochs: Of the whole training; None where all trials train equally long.

        Raises:
            ValueError: The value is not a finite number, or the size is missing.
        """
        self.release(number)
        former = self._pool_of.pop((number, epoch), None)
        if former is not None:
            former.remove(number)
        if value is None:
            return
        if not math.isfinite(value):
            raise ValueError(f"trial {number}, epoch {epoch}: {value} cannot be compared.")
        if self.several_objectives and size_bytes is None:
            raise ValueError(f"trial {number}: with several objectives its size is needed.")
        progress = epoch / num_epochs if num_epochs else 0.0
        own = (progress, float(epoch))
        key = (*own, ratio) if self.early.compare == "same_ratio" else own
        pool = self._pools.setdefault(key, _Pool(self.early.min_trials))
        size = float(size_bytes or 0) if self.several_objectives else 0.0
        pool.add(number, value, _Cell(size, ratio if self.early.compare == "centred" else 0.0))
        self._pool_of[number, epoch] = pool

    def goes_on(self, number: int, epoch: int) -> bool:
        """Tell whether a trial goes on from a rung, as things stand.

        It does if it is among the better `keep` of the comparable trials, itself included, if those
        are fewer than `min_trials`, or if it has no value there. Equal values have the same place:
        trials that share their beginning, such as a float warm-up, are all held or none.
        """
        pool = self._pool_of.get((number, epoch))
        return pool is None or self._better(pool.standing(number))

    def hold(self, number: int, epoch: int) -> None:
        """Take note that a trial waits after an epoch.

        One that has nothing to be compared by there, since rungs or metric have been changed, is
        promotable at once.
        """
        self._held[number] = pool = self._pool_of.get((number, epoch))
        if pool is not None:
            pool.held.add(number)

    def release(self, number: int) -> None:
        """Take note that a trial no longer waits: it goes on, or is given up."""
        pool = self._held.pop(number, None)
        if pool is not None:
            pool.held.discard(number)

    def promotable(self) -> list[int]:
        """Return the held trials that are now among the better part.

        Those of the highest rung come first; within a rung the best of their comparable trials.
        """
        unranked = (number for number, pool in self._held.items() if pool is None)
        found = [(-math.inf, 0.0, 0.0, number) for number in unranked]
        for (progress, epoch, *_), pool in self._pools.items():
            for number, standing in pool.held_standings():
                if self._better(standing):
                    found.append((-progress, -epoch, standing.rank / standing.among, number))
        return [number for *_, number in sorted(found)]

    def _better(self, standing: _Standing) -> bool:
        rank, among = standing
        if among < self.early.min_trials:
            return True
        return rank <= max(1, math.floor(self.early.keep * among + _TOLERANCE))


class _Standing(NamedTuple):
    """A trial's place, 1 more than those that are better, among so many comparable ones."""

    rank: int
    among: int


class _Cell(NamedTuple):
    """What sets trials of a pool apart: their size, and their ratio where values are centred."""

    size: float
    ratio: float


class _Pool:
    """The trials of one rung that are compared, each with those that are no larger.

    Compared are values less the median of those with the same ratio, once these are `min_trials`.
    Where ratios do not matter all cells have the same one, and the median changes nothing.
    """

    def __init__(self, min_trials: int) -> None:
        self.held: set[int] = set()
        self._min_trials = min_trials
        self._entries: dict[int, tuple[float, _Cell]] = {}
        self._cells: dict[_Cell, list[_Key]] = {}  # sorted
        self._by_ratio: dict[float, list[float]] = {}  # sorted

    def add(self, number: int, value: float, cell: _Cell) -> None:
        self._entries[number] = (value, cell)
        bisect.insort(self._cells.setdefault(cell, []), (value, number))
        bisect.insort(self._by_ratio.setdefault(cell.ratio, []), value)

    def remove(self, number: int) -> None:
        value, cell = self._entries.pop(number)
        keys, values = self._cells[cell], self._by_ratio[cell.ratio]
        del keys[bisect.bisect_left(keys, (value, number))]
        del values[bisect.bisect_left(values, value)]

    def standing(self, number: int) -> _Standing:
        """Return the place of a trial among the comparable ones, itself included."""
        value, own = self._entries[number]
        if not self._has_median(own):
            return _Standing(1, len(self._by_ratio[own.ratio]))
        key = (value - self._median(own), _FIRST)
        rank, among = 1, 0
        for cell, keys in self._cells.items():
            if cell.size <= own.size and self._has_median(cell):
                centred = partial(_less, self._median(cell))
                rank += bisect.bisect_left(keys, key, key=centred)
                among += len(keys)
        return _Standing(rank, among)

    def held_standings(self) -> Iterator[tuple[int, _Standing]]:
        """Yield each held trial with its place: one pass over the trials by size."""
        waiting = sorted(self.held, key=lambda number: self._entries[number][1].size)
        cells = sorted(self._cells, reverse=True)
        merged: list[_Key] = []
        for number in waiting:
            value, own = self._entries[number]
            while cells and cells[-1].size <= own.size:
                self._merge(cells.pop(), merged)
            if self._has_median(own):
                key = (value - self._median(own), _FIRST)
                yield number, _Standing(bisect.bisect_left(merged, key) + 1, len(merged))
            else:
                yield number, _Standing(1, len(self._by_ratio[own.ratio]))

    def _merge(self, cell: _Cell, merged: list[_Key]) -> None:
        """Sort a cell's centred values into those of the smaller cells."""
        if self._has_median(cell):
            median = self._median(cell)
            centred = [_less(median, key) for key in self._cells[cell]]
            if merged:
                for key in centred:
                    bisect.insort(merged, key)
            else:
                merged.extend(centred)

    def _has_median(self, cell: _Cell) -> bool:
        return len(self._by_ratio[cell.ratio]) >= self._min_trials

    def _median(self, cell: _Cell) -> float:
        values = self._by_ratio[cell.ratio]
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def _less(median: float, key: _Key) -> _Key:
    value, number = key
    return value - median, number

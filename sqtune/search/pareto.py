"""Which trials are best: in order, under a budget, as a front, and at its knee.

Candidates are finished trials; entirely float baselines are passed over as long as a quantized
network finished, and so are those that repeat another's configuration. Ties go to the smaller, then
to the older.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import le

from sqtune.config.options import Objective
from sqtune.quant import Float
from sqtune.search.records import TrialRecord

ERROR_AND_SIZE: tuple[Objective, ...] = ("val_error", "size_bytes")


def standard_error(error: float, num_images: int) -> float:
    """Return the standard error of an error rate (0..1) measured on `num_images` images.

    >>> round(standard_error(0.02, 449), 4)
    0.0066
    """
    return math.sqrt(error * (1 - error) / num_images)


def ranking(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the finished trials, best first: by error, then by size, then by age."""
    return sorted((trial for trial in trials if trial.val_error is not None), key=_merit)


def best(
    trials: Sequence[TrialRecord],
    max_size_bytes: int | None = None,
    max_error: float | None = None,
) -> TrialRecord | None:
    """Return the best candidate; None if there is none.

    Args:
        trials: Of a study.
        max_size_bytes: The most it may take.
        max_error: The largest validation error (0..1) it may have; then the best is the smallest.
    """
    fitting = [
        trial
        for trial in ranking(trials)
        if (max_size_bytes is None or _size(trial) <= max_size_bytes)
        and (max_error is None or _error(trial) <= max_error)
    ]
    found = candidates(fitting)
    if max_error is not None:
        found.sort(key=_size)
    return next(iter(found), None)


def front(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective] = ERROR_AND_SIZE
) -> list[TrialRecord]:
    """Return the candidates that no other one equals or beats in all objectives, best error first.

    Of several with equal objectives the first of the ranking stands for all. A trial of which an
    objective is not known is no candidate.
    """
    known: list[tuple[tuple[float, ...], TrialRecord]] = []
    for trial in candidates(ranking(trials)):
        values = tuple(value for value in objective_values(trial, objectives) if value is not None)
        if len(values) == len(objectives):
            known.append((values, trial))
    known.sort(key=lambda item: item[0])  # nothing is beaten by what comes after it
    on_front: list[tuple[tuple[float, ...], TrialRecord]] = []
    for values, trial in known:
        if not any(all(map(le, others, values)) for others, _ in on_front):
            on_front.append((values, trial))
    return ranking([trial for _, trial in on_front])


def compared(objectives: Sequence[Objective]) -> Sequence[Objective]:
    """Return what a study's front is drawn in: its objectives; error and size where it has one."""
    return objectives if len(objectives) > 1 else ERROR_AND_SIZE


def objective_values(
    trial: TrialRecord, objectives: Sequence[Objective]
) -> tuple[float | None, ...]:
    """Return a trial's objectives in their order; None for what is not known."""
    values = {"val_error": trial.val_error, **trial.facts}
    return tuple(values.get(objective) for objective in objectives)


def knee(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the candidate at the knee of error against size; None if there is none.

    Of the front, in the plane of the error and the logarithm of the size, it is the trial furthest
    below the chord from the smallest network to the most accurate one: to either side of it, error
    is dear in size, or size in error. Where the front does not bend below its chord, the most
    accurate one.
    """
    trade_offs = front(trials)
    if not trade_offs:
        return None
    top, smallest = trade_offs[0], trade_offs[-1]
    if top is smallest:
        return top
    errors = _error(smallest) - _error(top)
    sizes = math.log(_size(top) / _size(smallest))

    def below_chord(trial: TrialRecord) -> float:
        from_smallest = math.log(_size(trial) / _size(smallest)) / sizes
        return 1 - from_smallest - (_error(trial) - _error(top)) / errors

    between = max(trade_offs, key=below_chord)
    return between if below_chord(between) > 1e-9 else top


def candidates(ranked: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return those of finished trials that may be best, in their order."""
    originals = [trial for trial in ranked if trial.duplicate_of is None]
    quantized = [trial for trial in originals if trial.weight_bits != Float.bits]
    return quantized or originals


def _size(trial: TrialRecord) -> float:
    return math.inf if trial.size_bytes is None else trial.size_bytes


def _error(trial: TrialRecord) -> float:
    assert trial.val_error is not None
    return trial.val_error


def _merit(trial: TrialRecord) -> tuple[float, float, int]:
    return _error(trial), _size(trial), trial.number

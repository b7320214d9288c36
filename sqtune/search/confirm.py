"""Confirming: the best networks of a study trained again with new seeds, and judged by the mean.

Stochastic Quantization is stochastic: the lowest of many errors that were measured once is partly
luck. The confirmation is a study of its own, so it resumes, is recorded and shares stages like any.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from sqtune.config.options import EarlyStopping, SearchOptions
from sqtune.config.parameters import ChoiceParameter, IntParameter, label
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.search.confirmed import Confirmed
from sqtune.search.pareto import ranking
from sqtune.search.records import TrialRecord

SEED = "seed"
SEEDS = IntParameter.model_validate({"int": [0, 2**31 - 1]})


def distinct(trials: Sequence[TrialRecord], num_epochs: int | None) -> list[TrialRecord]:
    """Return the trials without those that differ from an earlier one in their seed alone.

    Args:
        trials: Of a study.
        num_epochs: Another budget for all; None keeps theirs.
    """
    return [alike[0] for alike in _alike(trials, num_epochs).values()]


def confirmation_name(study: str, num_epochs: int | None) -> str:
    """Return the name of a study's confirmation; each budget has its own.

    >>> confirmation_name("resnet", 200)
    'resnet-confirm-200'
    """
    return f"{study}-confirm" + ("" if num_epochs is None else f"-{num_epochs}")


def confirmation_space(
    space: SearchSpace,
    chosen: Sequence[TrialRecord],
    num_seeds: int,
    num_epochs: int | None,
    earlier: Sequence[dict[str, Any]] = (),
) -> SearchSpace:
    """Return the space whose points are the chosen trials with new seeds.

    Args:
        space: The space that they come from.
        chosen: The trials, distinct.
        num_seeds: Trainings of each, with the seeds after its own.
        num_epochs: Another budget; None keeps theirs.
        earlier: Points of the same confirmation so far, perhaps of other trials: they stay.
    """
    trial, searched = dict(space.trial), {**space.space, SEED: SEEDS}
    if num_epochs is not None:
        trial["num_epochs"] = num_epochs
        searched.pop("num_epochs", None)
    points = list(earlier)
    for offset in range(1, num_seeds + 1):  # a first seed of all comes before a second of any
        for one in chosen:
            values = {path: _value(space, path, value) for path, value in one.values.items()}
            values = {path: value for path, value in values.items() if path in searched}
            point = {**values, SEED: (one.config.seed + offset) % 2**31}
            points += [] if point in points else [point]
    search = SearchOptions(
        num_trials=len(points),
        sampler="random",
        seed=space.search.seed,
        max_concurrent=space.search.max_concurrent,
        early_stopping=EarlyStopping(name="none"),
        max_failures=len(points),
        watchdog_seconds=space.search.watchdog_seconds,
    )
    return space.model_copy(
        update={
            "name": confirmation_name(space.name, num_epochs),
            "trial": trial,
            "space": searched,
            "search": search,
            "points": points,
            "target": None,
        }
    )


def _value(space: SearchSpace, path: str, stored: Any) -> Any:
    """Return the value of a parameter whose label was stored."""
    parameter = space.space[path]
    if not isinstance(parameter, ChoiceParameter):
        return stored
    return next(value for value in parameter.choice if label(value) == label(stored))


def confirmed(
    chosen: Sequence[TrialRecord],
    trials: Sequence[TrialRecord],
    num_epochs: int | None = None,
    others: Sequence[TrialRecord] = (),
) -> list[Confirmed]:
    """Return what the new trainings say of the chosen trials, lowest mean error first.

    Of equal means the one with the lowest error comes first, as in `best_by_mean`. Those of which
    no training has finished come last.

    Args:
        chosen: Distinct trials of the study that is confirmed.
        trials: Of the confirmation.
        num_epochs: What those were trained for; None as long as the chosen ones.
        others: Finished trials of the study: what the confirmation has of them is told as well.
    """
    again = _alike(trials, num_epochs)
    found = []
    for one in distinct([*chosen, *others], num_epochs):
        own = again.get(_without_seed(one.config, num_epochs), [])
        if one not in chosen and not own:
            continue
        errors, failed = _errors(own), sum(trial.state == "failed" for trial in own)
        assert one.val_error is not None
        found.append(Confirmed(one.number, one.val_error, errors, failed, one.size_bytes))
    return sorted(
        found, key=lambda each: (each.mean, min(each.errors)) if each.errors else (math.inf, 0.0)
    )


def best_by_mean(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the lowest training of what has the lowest mean error over its seeds.

    Args:
        trials: Of a confirmation. Of equal means the one with the lowest error counts.

    Returns:
        None before one has finished.
    """
    groups = _alike(ranking(trials), None).values()
    ranked = sorted(groups, key=lambda group: statistics.fmean(_errors(group)))
    return ranked[0][0] if ranked else None


def _errors(trials: Sequence[TrialRecord]) -> tuple[float, ...]:
    """Return the errors of those that have finished."""
    return tuple(trial.val_error for trial in trials if trial.val_error is not None)


def _alike(
    trials: Sequence[TrialRecord], num_epochs: int | None
) -> dict[TrialConfig, list[TrialRecord]]:
    """Return the trials by what they have in common but for seed and given budget."""
    found: dict[TrialConfig, list[TrialRecord]] = {}
    for trial in trials:
        found.setdefault(_without_seed(trial.config, num_epochs), []).append(trial)
    return found


def _without_seed(config: TrialConfig, num_epochs: int | None) -> TrialConfig:
    changes = {"seed": 0, "num_epochs": num_epochs or config.num_epochs}
    return config.model_copy(update=changes)

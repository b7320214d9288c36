"""Confirming: the best networks of a study trained again with new seeds, and judged by the mean.

Stochastic Quantization is stochastic: the lowest of many errors that were measured once is partly
luck. The confirmation is a study of its own, so it resumes, is recorded and shares stages like any.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqtune.config.options import EarlyStopping, SearchOptions
from sqtune.config.parameters import ChoiceParameter, IntParameter, label
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.search.records import TrialRecord

SEED = "seed"
SEEDS = IntParameter.model_validate({"int": [0, 2**31 - 1]})


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One configuration over several seeds. Errors are shares (0..1) of the validation split.

    Attributes:
        trial: The trial's number in the study that was confirmed.
        first_error: What was measured there, once.
        errors: What new seeds gave, by seed.
        failed: Seeds whose training failed.
        size_bytes: Predicted size of the exported file.
    """

    trial: int
    first_error: float
    errors: tuple[float, ...]
    failed: int
    size_bytes: int | None

    @property
    def mean(self) -> float:
        """Mean of the new errors."""
        return statistics.fmean(self.errors)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean over the seeds; None of a single one."""
        return None if self.deviation is None else self.deviation / len(self.errors) ** 0.5

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        derived = {"mean": self.mean, "deviation": self.deviation} if self.errors else {}
        return {**asdict(self), "errors": list(self.errors), **derived}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Confirmed:
        """Return what `as_data` was called on."""
        known = {field.name: data[field.name] for field in fields(cls)}
        return cls(**{**known, "errors": tuple(data["errors"])})


def distinct(trials: Sequence[TrialRecord], num_epochs: int | None) -> list[TrialRecord]:
    """Return the trials without those that differ from an earlier one in their seed alone.

    Args:
        trials: Of a study.
        num_epochs: Another budget for all; None keeps theirs.
    """
    first: dict[TrialConfig, TrialRecord] = {}
    for trial in trials:
        first.setdefault(_without_seed(trial.config, num_epochs), trial)
    return list(first.values())


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
    chosen: Sequence[TrialRecord], trials: Sequence[TrialRecord], num_epochs: int | None = None
) -> list[Confirmed]:
    """Return what the new trainings say of the chosen trials, lowest mean error first.

    Those of which no training has finished come last.
    """
    found = []
    for one in chosen:
        again = _again(one, trials, num_epochs)
        errors = tuple(trial.val_error for trial in again if trial.val_error is not None)
        failed = sum(trial.state == "failed" for trial in again)
        assert one.val_error is not None
        found.append(Confirmed(one.number, one.val_error, errors, failed, one.size_bytes))
    return sorted(found, key=lambda each: (not each.errors, each.mean if each.errors else 0.0))


def winner(
    chosen: Sequence[TrialRecord], trials: Sequence[TrialRecord], num_epochs: int | None = None
) -> tuple[Confirmed, TrialRecord] | None:
    """Return what has the lowest mean error, and its training of the lowest; None before any."""
    ranked = confirmed(chosen, trials, num_epochs)
    if not ranked or not ranked[0].errors:
        return None
    original = next(one for one in chosen if one.number == ranked[0].trial)
    again = _again(original, trials, num_epochs)
    ended = [trial for trial in again if trial.val_error is not None]
    return ranked[0], min(ended, key=lambda trial: (trial.val_error, trial.number))


def _again(
    original: TrialRecord, trials: Sequence[TrialRecord], num_epochs: int | None
) -> list[TrialRecord]:
    """Return the trials that differ from a chosen one in nothing but seed and given budget."""
    alike = _without_seed(original.config, num_epochs)
    return [trial for trial in trials if _without_seed(trial.config, num_epochs) == alike]


def _without_seed(config: TrialConfig, num_epochs: int | None) -> TrialConfig:
    changes = {"seed": 0, "num_epochs": num_epochs or config.num_epochs}
    return config.model_copy(update=changes)

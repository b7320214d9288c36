"""Comparing methods: fixed configurations, each trained with the same seeds, judged by the mean.

The trainings are a study of their own, so they resume, are recorded and share stages like any.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqtune.config.compare import Budget, Method
from sqtune.config.compared import SEED, cells, comparison, comparison_space, first_seed
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.quant import Float, epoch_ratio
from sqtune.search.records import TrialRecord, reason_of

MANY_EPOCHS = 1000
LISTED = ("exponential", "average", "stages")  # schedules of a few ratios


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one budget. Errors are shares (0..1).

    Attributes:
        num_epochs: Epochs of each training.
        bits: Average bits of a weight; None before a training has ended.
        val_errors: Validation error by seed.
        test_errors: Test error by seed.
        top5_errors: Top-5 test error by seed, where there are more than ten classes.
        failures: Why a training failed, in one line, by seed.
        cut_short: Whether the epochs are too few for every stage of the ratio schedule.
    """

    num_epochs: int
    bits: float | None
    val_errors: Mapping[int, float]
    test_errors: Mapping[int, float]
    top5_errors: Mapping[int, float]
    failures: Mapping[int, str]
    cut_short: bool

    @property
    def mean(self) -> float | None:
        """Mean test error; None before any."""
        return statistics.fmean(self.test_errors.values()) if self.test_errors else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the test error over the seeds; None of fewer than two."""
        return spread_of(self.test_errors)


def spread_of(errors: Mapping[int, float]) -> float | None:
    """Return the standard deviation of errors by seed; None of fewer than two."""
    return statistics.stdev(errors.values()) if len(errors) > 1 else None


@dataclass(frozen=True, slots=True)
class Gain:
    """How much lower a method's test error is than that of the method it is to beat.

    Attributes:
        mean: Mean of the differences, seed by seed; above 0: it wins.
        standard_error: Of that mean; None of a single seed.
        num_seeds: Seeds that both have.
    """

    mean: float
    standard_error: float | None
    num_seeds: int


@dataclass(frozen=True, slots=True)
class Row:
    """One method. `cells` and `gains` are by budget; a gain is None where nothing is compared."""

    method: Method
    cells: dict[Budget, Cell]
    gains: dict[Budget, Gain | None]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        budgets = {}
        for budget, cell in self.cells.items():
            gain = self.gains[budget]
            budgets[str(budget)] = {
                **asdict(cell),
                "failed": len(cell.failures),
                "mean": cell.mean,
                "deviation": cell.deviation,
                "gain": None if gain is None else asdict(gain),
            }
        return {**self.method.model_dump(mode="json"), "budgets": budgets}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Row:
        """Return what `as_data` was called on, also where it has been JSON."""
        method = Method.model_validate(
            {key: item for key, item in data.items() if key != "budgets"}
        )
        cells, gains = dict[Budget, Cell](), dict[Budget, Gain | None]()
        for name, known in data["budgets"].items():
            budget: Budget = "paper" if name == "paper" else int(name)
            gain = known["gain"]
            gains[budget] = None if gain is None else Gain(**gain)
            older: dict[str, Any] = {"failures": {}, "top5_errors": {}}  # files that have none
            cell = {field.name: {**older, **known}[field.name] for field in fields(Cell)}
            for by_seed in ("val_errors", "test_errors", "top5_errors", "failures"):
                cell[by_seed] = {int(seed): each for seed, each in cell[by_seed].items()}
            cells[budget] = Cell(**cell)
        return cls(method, cells, gains)


def rows(space: SearchSpace, num_seeds: int, trials: Sequence[TrialRecord]) -> list[Row]:
    """Return what the trials of a comparison's study say of its methods.

    Args:
        space: What is compared.
        num_seeds: Trainings of each method at each budget.
        trials: Of the study.
    """
    derived, start = comparison_space(space, num_seeds), first_seed(space)
    by_config = {trial.config: trial for trial in trials}
    table: dict[str, dict[Budget, Cell]] = {}
    for method, budget, values in cells(space):
        trained = {}
        for seed in range(start, start + num_seeds):
            config = derived.config({**values, SEED: seed})
            if config in by_config:
                trained[seed] = by_config[config]
        config = derived.config({**values, SEED: start})
        table.setdefault(method.name, {})[budget] = _cell(config, trained)
    found = []
    for method in comparison(space).methods:
        own, other = table[method.name], table.get(method.against or "", {})
        gains = {budget: _gain(cell, other.get(budget)) for budget, cell in own.items()}
        found.append(Row(method, own, gains))
    return found


def _cell(config: TrialConfig, trials: Mapping[int, TrialRecord]) -> Cell:
    """Return what the trials of a configuration came to, by seed."""
    val_errors = {seed: trial.val_error for seed, trial in trials.items()}
    test_errors = {seed: trial.test_error for seed, trial in trials.items()}
    top5_errors = {seed: trial.facts.get("test_top5_error") for seed, trial in trials.items()}
    return Cell(
        num_epochs=config.num_epochs,
        bits=next((t.weight_bits for t in trials.values() if t.val_error is not None), None),
        val_errors={seed: error for seed, error in val_errors.items() if error is not None},
        test_errors={seed: error for seed, error in test_errors.items() if error is not None},
        top5_errors={seed: error for seed, error in top5_errors.items() if error is not None},
        failures={
            seed: reason_of(trial.failure)
            for seed, trial in trials.items()
            if trial.state == "failed"
        },
        cut_short=_stages(config, config.num_epochs) < _stages(config, MANY_EPOCHS),
    )


def _stages(config: TrialConfig, num_epochs: int) -> int:
    """Return how many stages of a listed schedule a training of so many epochs goes through."""
    if isinstance(config.quantizer, Float) or config.schedule.name not in LISTED:
        return 0
    epochs = range(1, num_epochs + 1)
    return len({epoch_ratio(config.schedule, epoch, num_epochs) for epoch in epochs})


def _gain(cell: Cell, other: Cell | None) -> Gain | None:
    """Return the gain over another method, seed by seed; None without seeds of both."""
    if other is None:
        return None
    both = [seed for seed in cell.test_errors if seed in other.test_errors]
    if not both:
        return None
    lower = [other.test_errors[seed] - cell.test_errors[seed] for seed in both]
    spread = statistics.stdev(lower) / len(lower) ** 0.5 if len(lower) > 1 else None
    return Gain(statistics.fmean(lower), spread, len(lower))

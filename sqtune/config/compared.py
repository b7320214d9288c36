"""The points of a comparison: every method at every budget, each with every seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqtune.config.compare import Budget, Comparison, Method
from sqtune.config.options import SearchOptions
from sqtune.config.parameters import ChoiceParameter, IntParameter, label
from sqtune.config.paths import get, keys_of
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.errors import ConfigError

DEFAULT_SEEDS = 3
SEED, EPOCHS = "seed", "num_epochs"
NUMBERS = {
    SEED: IntParameter.model_validate({"int": [0, 2**31 - 1]}),
    EPOCHS: IntParameter.model_validate({"int": [1, 100_000]}),
}
LIMITS = ("max_concurrent", "time_limit_seconds", "max_gpu_hours", "watchdog_seconds")


def comparison(space: SearchSpace) -> Comparison:
    """Return what a space compares.

    Raises:
        ConfigError: Nothing.
    """
    if space.compare is None:
        raise ConfigError(
            f'"{space.name}" compares nothing: it has no section compare: with methods. '
            "One to begin with: sqtune new methods.yaml --from compare_digits; sqtune search is "
            "for the others."
        )
    return space.compare


def comparison_space(space: SearchSpace, num_seeds: int) -> SearchSpace:
    """Return the space whose points are the trainings of a comparison.

    A first seed of all comes before a second of any. Seeds count up from the trial's own, so that
    with more of them, or with other budgets, the same study goes on.

    Args:
        space: One with a comparison.
        num_seeds: Trainings of each method at each budget.

    Raises:
        ConfigError: It compares nothing, or a path has no value in some method.
    """
    compared = comparison(space)
    seeds = range(first_seed(space), first_seed(space) + num_seeds)
    points: list[dict[str, Any]] = []
    for seed in seeds:
        for _, _, values in cells(space):
            point = {**values, SEED: seed}
            points += [] if point in points else [point]
    search = SearchOptions(
        num_trials=len(points),
        sampler="points",
        max_failures=len(points),
        **{limit: getattr(space.search, limit) for limit in LIMITS},
    )
    searched = {path: ChoiceParameter(choice=_choices(space, path)) for path in _paths(compared)}
    return space.model_copy(
        update={
            "space": {**searched, **NUMBERS},
            "search": search,
            "points": points,
            "target": None,
            "compare": None,
        }
    )


def first_seed(space: SearchSpace) -> int:
    """Return the seed from which a comparison counts."""
    return space.config({}).seed


def cells(space: SearchSpace) -> Iterator[tuple[Method, Budget, dict[str, Any]]]:
    """Yield every method at every budget, with its values by path but for the seed."""
    compared, base = comparison(space), space.config({})
    for budget in compared.budgets:
        for method in compared.methods:
            values = {path: _value(space, method, base, path) for path in _paths(compared)}
            values[EPOCHS] = compared.epochs(method, budget, base.num_epochs)
            yield method, budget, values


def _paths(compared: Comparison) -> list[str]:
    return list(dict.fromkeys(path for method in compared.methods for path in method.values))


def _choices(space: SearchSpace, path: str) -> list[Any]:
    """Return the distinct values that methods have at a path, in order."""
    distinct: dict[str, Any] = {}
    for method in comparison(space).methods:
        value = _value(space, method, space.config({}), path)
        distinct.setdefault(label(value), value)
    return list(distinct.values())


def _value(space: SearchSpace, method: Method, base: TrialConfig, path: str) -> Any:
    """Return a method's value at a path: its own, or what stands under `trial`."""
    if path in method.values:
        return method.values[path]
    for tree in (space.trial, base.nested()):
        try:
            return get(tree, keys_of(path))
        except KeyError:
            continue
    raise ConfigError(
        f"{path} has a value in some methods and stands nowhere for {method.name}. Give it one "
        "there, or under trial: for all."
    )

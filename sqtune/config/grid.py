"""The points of a space: how many there are, all of them in order, and draws at random."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from sqtune.config.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter
from sqtune.config.space import SearchSpace
from sqtune.errors import ConfigError

NO_GRID = (
    "a grid goes through every value, and a float without step has no end of them. Give it a step, "
    "or take search.sampler: random, qmc or tpe."
)


def count(space: SearchSpace) -> int | None:
    """Return how many points a space has: combinations of values, conditions respected.

    None where a number without step makes them endless. No point is made, so that it takes as long
    for millions as for ten. Choices that mean the same, such as a schedule written out with its
    default, count each.
    """
    if endless(space):
        return None
    return math.prod(_count_linked(space, paths) for paths in _linked(space))


def endless(space: SearchSpace) -> list[str]:
    """Return the paths of the numbers that have no step, and so no list of values."""
    return [
        path
        for path, parameter in space.space.items()
        if isinstance(parameter, FloatParameter) and parameter.step is None
    ]


def points(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Return an iterator of all points of a space: values by path, as `config()` takes them.

    In the order of nested loops: the space's first parameter changes last, each goes through its
    values in the order in which they stand, numbers from the lowest to the highest.

    Raises:
        ConfigError: They are endless.
    """
    numbers = endless(space)
    if numbers:
        raise ConfigError(f"space.{numbers[0]}: {NO_GRID}")
    order = space.order()
    listed = [all_values(space.space[path]) for path in order]
    return _points(space, order, listed, {})


def _points(
    space: SearchSpace,
    order: Sequence[str],
    listed: Sequence[Sequence[Any]],
    values: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    depth = 0
    while depth < len(order) and not space.is_active(order[depth], values):
        depth += 1
    if depth == len(order):
        yield values
        return
    for value in listed[depth]:
        grown = {**values, order[depth]: value}
        yield from _points(space, order[depth + 1 :], listed[depth + 1 :], grown)


def draw(space: SearchSpace, generator: random.Random) -> dict[str, Any]:
    """Return a point as a random sampler proposes it: each active value uniformly, on its scale.

    A point is drawn with the product of its values' chances, so that one behind many conditions is
    rarer than its share of all points.
    """
    values: dict[str, Any] = {}
    for path, parameter in space.active(values):
        values[path] = _draw(parameter, generator)
    return values


def _draw(parameter: Parameter, generator: random.Random) -> Any:
    match parameter:
        case IntParameter(log=False) | ChoiceParameter():
            return generator.choice(all_values(parameter))
        case FloatParameter(step=float()):
            return generator.choice(all_values(parameter))
        case IntParameter(bounds=(low, high)):  # each whole number has its half to either side
            drawn = math.exp(generator.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(max(round(drawn), low), high)
        case FloatParameter(bounds=(low, high), log=True):
            return math.exp(generator.uniform(math.log(low), math.log(high)))
        case FloatParameter(bounds=(low, high)):
            return generator.uniform(low, high)


def all_values(parameter: Parameter) -> Sequence[Any]:
    """Return all values of a parameter that has an end of them, in order.

    Numbers with a step are as exact as they are written: 0.1, 0.2, 0.3.
    """
    match parameter:
        case ChoiceParameter(choice=choice):
            return choice
        case IntParameter(bounds=(low, high), step=step):
            return range(low, high + 1, step)
        case FloatParameter(bounds=bounds, step=float() as width):
            first, last, step_width = (Decimal(str(number)) for number in (*bounds, width))
            return [
                float(first + index * step_width)
                for index in range(int((last - first) / step_width) + 1)
            ]
    raise ValueError("a float without step has no list of values.")


def _linked(space: SearchSpace) -> list[list[str]]:
    """Return the paths in groups that no condition links, each in the space's order."""
    groups: list[set[str]] = []
    for path, parameter in space.space.items():
        group = {path, *(other for other in parameter.when if other in space.space)}
        apart = [known for known in groups if not known & group]
        groups = [*apart, group.union(*(known for known in groups if known & group))]
    order = space.order()
    return [[path for path in order if path in group] for group in groups]


def _count_linked(space: SearchSpace, paths: Sequence[str]) -> int:
    """Count the points of parameters that conditions link.

    Only what conditions name is gone through, and of its values only one of those that meet the
    same conditions.
    """
    conditions: dict[str, list[Any]] = {}
    for path in paths:
        for other, wanted in space.space[path].when.items():
            if other in space.space:
                conditions.setdefault(other, []).append(wanted)
    # of each path one value of those that act alike, and how many they are
    kinds: dict[str, list[tuple[Any, int]]] = {}
    for path in paths:
        values = all_values(space.space[path])
        named = path in conditions
        kinds[path] = _kinds(values, conditions[path]) if named else [(None, len(values))]
    return _count(space, paths, kinds, {})


def _kinds(values: Sequence[Any], conditions: Sequence[Any]) -> list[tuple[Any, int]]:
    """Return one of the values that meet the same conditions, and how many they are, of each kind.

    >>> _kinds(range(10), [[3, 5], 3])
    [(3, 1), (5, 1), (0, 8)]
    """
    looked_at = values
    if isinstance(values, range):  # as long as it may be, what no condition names acts alike
        lists = (wanted if isinstance(wanted, list) else [wanted] for wanted in conditions)
        asked = {each for wanted in lists for each in wanted if isinstance(each, int)}
        looked_at = sorted(each for each in asked if each in values)
    alike: dict[tuple[bool, ...], list[Any]] = {}
    for value in looked_at:
        met = tuple(SearchSpace.meets(value, wanted) for wanted in conditions)
        alike.setdefault(met, []).append(value)
    kinds = [(group[0], len(group)) for group in alike.values()]
    if len(values) > len(looked_at):
        other = next(value for value in values if value not in looked_at)
        kinds.append((other, len(values) - len(looked_at)))
    return kinds


def _count(
    space: SearchSpace,
    paths: Sequence[str],
    kinds: dict[str, list[tuple[Any, int]]],
    values: dict[str, Any],
) -> int:
    waiting = itertools.dropwhile(lambda path: not space.is_active(path, values), paths)
    path = next(waiting, None)
    if path is None:
        return 1
    rest = list(waiting)
    return sum(
        number * _count(space, rest, kinds, {**values, path: value})
        for value, number in kinds[path]
    )

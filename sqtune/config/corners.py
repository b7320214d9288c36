"""The points of a space that together show every way its configurations can be wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from sqtune.config.parameters import ChoiceParameter
from sqtune.config.space import SearchSpace

MOST_COMBINATIONS = 5_000  # of structural choices that are checked; a larger space is sampled
STRUCTURAL = (
    "name",
    "model",
    "factory",
    "match",
)  # last parts of paths on which it depends what else fits


def corner_points(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield sampled values that together show every way a configuration can be wrong.

    All combinations of the structural choices (names, patterns, mappings, lists and what conditions
    depend on); with each of them every other parameter at its first value, all at their last, and
    each one alone. Where only the space's points are tried, these.
    """
    if space.search.sampler == "points":
        yield from (space.completed(point) for point in space.points)
        return
    structural = {other for parameter in space.space.values() for other in parameter.when} | {
        path
        for path, parameter in space.space.items()
        if isinstance(parameter, ChoiceParameter)
        and (
            path.split(".")[-1] in STRUCTURAL
            or path.startswith("keep_float.")
            or any(isinstance(value, dict | list) for value in parameter.choice)
        )
    }
    for values in itertools.islice(_branches(space, structural, {}), MOST_COMBINATIONS):
        yield dict(values)
        free = [path for path in values if path not in structural]
        yield {**values, **{path: space.space[path].samples()[-1] for path in free}}
        for path in free:
            for sample in space.space[path].samples()[1:]:
                yield {**values, path: sample}


def _branches(
    space: SearchSpace, structural: set[str], values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for path, parameter in space.active(values):
        if path in values:
            continue
        samples = parameter.samples()
        if path in structural:
            for sample in samples:
                yield from _branches(space, structural, {**values, path: sample})
            return
        values[path] = samples[0]
    yield values

"""Whether the points of a space can be tried as they are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from sqtune.config.parameters import no_value_of
from sqtune.config.paths import Keys
from sqtune.config.space import SearchSpace
from sqtune.errors import did_you_mean

OUT = " Change the point, or leave all out: --set 'points=[]'."
Findings = Iterator[tuple[Keys, str]]


def wrong_points(
    space: SearchSpace, wrong_configuration: Callable[[SearchSpace, dict[str, Any]], Findings]
) -> Findings:
    """Yield what is wrong with a space's points: the keys of the place, and the message.

    Args:
        space: The space; its parameters and conditions are right.
        wrong_configuration: Yields what is wrong with sampled values.
    """
    for index, point in enumerate(space.points):
        home: Keys = ("points", index)
        problem = next(_wrong_values(space, home, point), None)
        if problem is not None:
            yield problem
            continue
        for keys, message in wrong_configuration(space, space.completed(point)):
            yield home, f"{'.'.join(map(str, keys))}: {message}"


def _wrong_values(space: SearchSpace, home: Keys, point: dict[str, Any]) -> Findings:
    for path, value in point.items():
        keys = (*home, path)
        if path not in space.space:
            yield keys, _not_searched(space, path)
            continue
        remedy = no_value_of(space.space[path], value)
        if remedy:
            yield keys, f"{json.dumps(value)} is not among the values of {path}. {remedy}{OUT}"
        for other, wanted in space.space[path].when.items():
            if other in space.space and other not in point:
                yield keys, f"it depends on {other}, which the point leaves open: add it."
                continue
            chosen = point[other] if other in space.space else space.fixed(other)
            if not space.meets(chosen, wanted):
                yield (
                    keys,
                    (
                        f"it is searched only where {other} is {json.dumps(wanted)}, not "
                        f"{json.dumps(chosen)}: take it out of the point."
                    ),
                )


def _not_searched(space: SearchSpace, path: str) -> str:
    try:
        fixed = space.fixed(path)
    except KeyError:
        return (
            f"a point gives values that are searched. {did_you_mean(path, space.space)}"
            if space.space
            else "a point gives values that are searched, and nothing is searched."
        )
    return f"it is fixed at {json.dumps(fixed)}: take it out of the point, or search it."

"""Trials with given values: the space's `points`, each once, and the points of a grid in order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from sqtune.config.grid import points as grid_points
from sqtune.config.parameters import FloatParameter
from sqtune.config.space import SearchSpace
from sqtune.search.samplers import stored_value
from sqtune.search.stored import GRID_INDEX, POINT


def new_points(space: SearchSpace, trials: Iterable[FrozenTrial]) -> Iterator[FrozenTrial]:
    """Yield a waiting trial for each of the space's points that no trial was made for."""
    done = {trial.user_attrs.get(POINT) for trial in trials}
    for point in space.points:
        values = {path: _plain(space, path, value) for path, value in point.items()}
        name = json.dumps(values, sort_keys=True)
        if name not in done:
            done.add(name)
            yield _asked_for(values, TrialState.WAITING, {POINT: name})


class Grid:
    """The points of a finite space, in order.

    Args:
        space: The space.
        trials: All trials so far: the grid goes on after the last point that one of them has.

    Raises:
        ConfigError: The space has no end of points.
    """

    def __init__(self, space: SearchSpace, trials: Iterable[FrozenTrial]) -> None:
        taken = (trial.user_attrs.get(GRID_INDEX, -1) for trial in trials)
        self._index = max(taken, default=-1) + 1
        self._rest = itertools.islice(grid_points(space), self._index, None)

    def next(self) -> FrozenTrial | None:
        """Return a running trial for the next point; None after the last one."""
        values = next(self._rest, None)
        if values is None:
            return None
        self._index += 1
        stored = {path: stored_value(value) for path, value in values.items()}
        return _asked_for(stored, TrialState.RUNNING, {GRID_INDEX: self._index - 1})


def _plain(space: SearchSpace, path: str, value: Any) -> Any:
    """Return a point's value as it is stored; 1 and 1.0 are the same float."""
    return float(value) if isinstance(space.space[path], FloatParameter) else stored_value(value)


def _asked_for(
    values: Mapping[str, Any], state: TrialState, attrs: Mapping[str, Any]
) -> FrozenTrial:
    return create_trial(
        state=state,
        system_attrs={"fixed_params": dict(values)},  # as Study.enqueue_trial does
        user_attrs=dict(attrs),
    )

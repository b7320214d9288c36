"""What a study tries next: interrupted trials, then points, then what the sampler proposes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from sqtune.config.grid import count
from sqtune.config.space import SearchSpace
from sqtune.search.points import Grid, new_points
from sqtune.search.samplers import Samplers, suggest
from sqtune.search.stored import CONFIG, DUPLICATE_OF, REFUSED

MOST_REPEATS = 5  # proposals in a row that repeat a trial; the next one is drawn at random
MOST_USELESS = 1_000  # proposals in a row that are refused or repeat a trial; there is no next


class Proposals:
    """The proposals of a study that is being driven.

    Attributes:
        exhausted: Why there is nothing more to propose; None as long as there is.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace) -> None:
        self.exhausted: str | None = None
        self._study, self._storage, self._space = study, study._storage, space
        self._samplers = Samplers(space)
        for point in new_points(space, study.get_trials(deepcopy=False)):
            self._storage.create_new_trial(study._study_id, point)
        trials = study.get_trials(deepcopy=False)
        self._waiting = deque(t.number for t in trials if t.state == TrialState.WAITING)
        self._grid = Grid(space, trials) if space.search.sampler == "grid" else None
        self._num_points = count(space)
        self._seen: set[frozenset[tuple[str, Any]]] = set()  # where there are finitely many
        self._useless = 0  # of the last proposals, how many cost nothing
        self._next_number = len(trials)
        for trial in trials:
            if CONFIG in trial.user_attrs:
                self._remember(trial)

    def put_back(self, numbers: Iterable[int]) -> None:
        """Propose trials again that are waiting now."""
        self._waiting = deque(sorted({*self._waiting, *numbers}))

    def next(self) -> tuple[optuna.Trial, dict[str, Any]] | None:
        """Return a running trial and its values by path; None where there is nothing more."""
        trial_id = self._next_id()
        if trial_id is None:
            return None
        number = self._storage.get_trial_number_from_id(trial_id)
        self._study._thread_local.cached_all_trials = None  # as Study.ask does
        self._study.sampler = self._samplers.of(number)
        trial, values = optuna.Trial(self._study, trial_id), dict[str, Any]()
        at_random = self._repeats(number)
        for path, parameter in self._space.active(values):
            self._study.sampler = self._samplers.of(number, path, at_random=at_random)
            values[path] = suggest(trial, path, parameter)  # one that is stored stays
        return trial, values

    def added(self, num_trials: int) -> None:
        """Take in that so many trials were added to the study."""
        self._next_number += num_trials

    def settled(self, trial_id: int) -> None:
        """Take in that a proposal has its configuration and, where it cost nothing, its end."""
        self._remember(self._storage.get_trial(trial_id))

    def _next_id(self) -> int | None:
        """Return the storage's id of the next trial, running."""
        study_id = self._study._study_id
        if self._waiting:
            number = self._waiting.popleft()
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
            return trial_id
        if self._space.search.sampler == "points":
            self.exhausted = "every point has been proposed"
            return None
        if self._grid is not None:
            template = self._grid.next()
            if template is None:
                self.exhausted = "every point of the grid has been proposed"
                return None
        else:
            self.exhausted = self._end_of_space()
            if self.exhausted:
                return None
            template = self._drawn()
        self._next_number += 1
        return self._storage.create_new_trial(study_id, template)

    def _drawn(self) -> FrozenTrial | None:
        """Return a running trial with all its values, where they are drawn at random.

        One line of the journal instead of one for each value; the values are the same.
        """
        if self._space.search.sampler != "random":
            return None
        params = self._samplers.draw(self._study, self._next_number)
        distributions = {path: self._samplers.distributions[path] for path in params}
        return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)

    def _end_of_space(self) -> str | None:
        if self._num_points is not None and len(self._seen) >= self._num_points:
            return f"every point of the space has been proposed: there are {self._num_points}"
        if self._useless >= MOST_USELESS:
            return (
                f"the last {MOST_USELESS} proposals did not fit the target or had been tried "
                "already: widen the space, or relax the target in another study"
            )
        return None

    def _remember(self, trial: FrozenTrial) -> None:
        if self._num_points is not None:
            self._seen.add(frozenset(trial.params.items()))
        free = trial.state.is_finished() and trial.user_attrs.keys() & {REFUSED, DUPLICATE_OF}
        self._useless = self._useless + 1 if free else 0

    def _repeats(self, number: int) -> bool:
        """Tell whether the trials just before a number all repeat others: the sampler is stuck."""
        before = range(max(0, number - MOST_REPEATS), number)
        ids = map(
            self._storage.get_trial_id_from_study_id_trial_number,
            [self._study._study_id] * len(before),
            before,
        )
        trials = map(self._storage.get_trial, ids)
        return len(before) == MOST_REPEATS and all(
            trial.state == TrialState.COMPLETE and DUPLICATE_OF in trial.user_attrs
            for trial in trials
        )

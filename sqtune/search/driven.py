"""A database in front of which the driver remembers what it wrote."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState


class DrivenStorage(_CachedStorage):
    """Optuna's cache in front of a database, which of one study knows the running trials as well.

    Only its driver writes to a study, so what it wrote is what there is. Optuna's own cache asks
    the database for a running trial at every look, and for all of them at every proposal: with
    hundreds of trials at once that takes longer than everything else.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._driven: int | None = None

    def drive(self, study_id: int) -> None:
        """Read the trials of the study that is driven, for the last time."""
        super()._read_trials_from_remote_storage(study_id)
        self._driven = study_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Store a parameter's value."""
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        value = distribution.to_external_repr(param_value_internal)
        self._add(trial_id, "params", param_name, value)
        self._add(trial_id, "distributions", param_name, distribution)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute."""
        super().set_trial_user_attr(trial_id, key, value)
        self._add(trial_id, "user_attrs", key, json.loads(json.dumps(value)))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Store an attribute of Optuna's own."""
        super().set_trial_system_attr(trial_id, key, value)
        self._add(trial_id, "system_attrs", key, json.loads(json.dumps(value)))

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Store an intermediate value."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._add(trial_id, "intermediate_values", step, intermediate_value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Store a state; an end that was stored before the connection broke counts as stored."""
        done = super().set_trial_state_values(trial_id, state, values)
        changes: dict[str, Any] = {"state": state}
        if values is not None:
            changes["values"] = list(values)
        if state == TrialState.RUNNING:
            changes["datetime_start"] = datetime.now()
        if state.is_finished():
            changes["datetime_complete"] = datetime.now()
        if done or state.is_finished():
            self._change(trial_id, **changes)
        return done

    def _add(self, trial_id: int, what: str, key: Any, value: Any) -> None:
        trial = self._get_cached_trial(trial_id)
        if trial is not None:
            self._change(trial_id, **{what: {**getattr(trial, what), key: value}})

    def _change(self, trial_id: int, **changes: Any) -> None:
        """Take in what was written; whoever holds the trial as it was keeps it."""
        study_id, number = self._trial_id_to_study_id_and_number.get(trial_id, (None, 0))
        if study_id is None or study_id != self._driven:
            return
        with self._lock:
            trials = self._studies[study_id].trials
            trials[number] = changed = copy.copy(trials[number])
            for name, value in changes.items():
                setattr(changed, name, value)

    def _get_cached_trial(self, trial_id: int) -> FrozenTrial | None:
        study_id, number = self._trial_id_to_study_id_and_number.get(trial_id, (None, 0))
        if study_id is None or study_id != self._driven:
            return super()._get_cached_trial(trial_id)
        return self._studies[study_id].trials[number]

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id != self._driven:
            super()._read_trials_from_remote_storage(study_id)


def for_driving(storage: BaseStorage) -> BaseStorage:
    """Return a storage that remembers what is written through it, where that saves something."""
    return DrivenStorage(storage) if isinstance(storage, RDBStorage) else storage

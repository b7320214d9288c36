"""The study as one looks at it: its attributes and its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.errors import StudyError, did_you_mean
from sqtune.search.changes import refuse_changes, refuse_other_files
from sqtune.search.importance import importance
from sqtune.search.records import TrialRecord
from sqtune.search.storage import study_names
from sqtune.search.stored import CONFIG, RUN_ID, record_of, with_results_of
from sqtune.shipped import BEGIN

_Later = tuple[Mapping[str, float], Mapping[str, str], Mapping[str, Mapping[str, Any]]]


class StudyView:
    """A study in a storage. `load` opens it.

    Attributes:
        space: What is searched.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace) -> None:
        self.space = space
        self._study, self._storage = study, study._storage
        self._ended: dict[int, TrialRecord] = {}  # they change no more

    @classmethod
    def load(cls, storage: BaseStorage, name: str | None) -> Self:
        """Load a study by name; None takes the one that was driven last.

        Raises:
            StudyError: There is none.
        """
        names = study_names(storage)
        if not names:
            raise StudyError(
                "there is no study here yet. Start one: sqtune search --space FILE (to begin "
                f"with, {BEGIN} writes FILE)."
            )
        if name is not None and name not in names:
            raise StudyError(f'there is no study "{name}". {did_you_mean(name, names)}')
        study = optuna.load_study(study_name=name or names[-1], storage=storage)
        return cls(study, SearchSpace.model_validate_json(study.user_attrs["space"]))

    def beside(self, name: str) -> StudyView | None:
        """Return the study of a name in the same storage; None if there is none."""
        known = name in study_names(self._storage)
        return StudyView.load(self._storage, name) if known else None

    def refuse_changes(self, space: SearchSpace) -> None:
        """Raise StudyError, naming what differs, where trials of `space` would not compare."""
        refuse_changes(self.space, space)

    def refuse_other_files(self, files: Mapping[str, str]) -> None:
        """Raise StudyError where weights that trials start from are no longer the same."""
        refuse_other_files(self.name, self.attrs.get("files", {}), files)

    @property
    def name(self) -> str:
        """Its name."""
        return self._study.study_name

    @property
    def attrs(self) -> dict[str, Any]:
        """Its own attributes: uuid, provenance, run_id, ..."""
        return self._study.user_attrs

    def set_attr(self, key: str, value: Any) -> None:
        """Store an attribute of the study."""
        self._study.set_user_attr(key, value)

    def set_test_error(
        self, number: int, test_error: float, num_images: int, top5_error: float | None = None
    ) -> None:
        """Store the error (0..1) of a trial that was chosen, on the test split's images.

        Args:
            number: The trial's.
            test_error: Top-1.
            num_images: Of the test split.
            top5_error: Where there are enough classes.
        """
        known = {"test_errors": test_error, "test_images": num_images}
        if top5_error is not None:
            known["test_top5_errors"] = top5_error
        for key, value in known.items():
            self.set_attr(key, {**self.attrs.get(key, {}), str(number): value})

    def set_run_id(self, number: int, run_id: str) -> None:
        """Store a trial's MLflow run, which may be known only when the trial has ended."""
        if self.trial(number).run_id == run_id:
            return
        if self._storage.get_trial(self._id(number)).state.is_finished():
            self.set_attr("run_ids", {**self.attrs.get("run_ids", {}), str(number): run_id})
        else:
            self._storage.set_trial_user_attr(self._id(number), RUN_ID, run_id)

    def importance(self) -> dict[str, float]:
        """Return each searched value's share (0..1) in what sets the best trials apart."""
        return importance(self._study, self.space.search.objectives.index("val_error"))

    def trial(self, number: int) -> TrialRecord:
        """Return one trial."""
        trial = self._storage.get_trial(self._id(number))
        return self._record(trial, self._known_later())

    def trials(self) -> list[TrialRecord]:
        """Return all trials that have a configuration, by number."""
        later = self._known_later()
        trials = self._study.get_trials(deepcopy=False)
        records = [self._record(trial, later) for trial in trials if CONFIG in trial.user_attrs]
        self._ended = {record.number: record for record in records if record.ended}
        return records

    def _known_later(self) -> _Later:
        """Return what is known of trials when they have ended: test errors, MLflow runs, facts."""
        attrs = self._storage.get_study_user_attrs(self._study._study_id)  # self.attrs is a copy
        facts = {
            "num_test": attrs.get("test_images", {}),
            "test_top5_error": attrs.get("test_top5_errors", {}),
        }
        return attrs.get("test_errors", {}), attrs.get("run_ids", {}), facts

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _config(self, number: int) -> TrialConfig | None:
        """Return a trial's configuration where it has been read already."""
        del number
        return None

    def _record(self, trial: FrozenTrial, later: _Later) -> TrialRecord:
        number = trial.number
        record = self._ended.get(number)
        if record is None:
            record = record_of(trial, self._config(number))
            if record.duplicate_of is not None:
                record = with_results_of(record, self.trial(record.duplicate_of))
        key, (test_errors, run_ids, facts_later) = str(number), later
        test_error, run_id = test_errors.get(key), run_ids.get(key)
        if test_error is None and run_id is None:
            return record
        measured = {name: known[key] for name, known in facts_later.items() if key in known}
        run_id, facts = run_id or record.run_id, {**record.facts, **measured}
        return replace(record, test_error=test_error, run_id=run_id, facts=facts)

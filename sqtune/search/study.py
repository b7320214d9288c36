"""The study: Optuna proposes, and its storage is the one truth about trials. Only a driver writes.

A trial's state in Optuna: RUNNING while a driver trains it, WAITING when it was interrupted (its
parameters stay; it is the next to be asked for), COMPLETE or FAIL at the end. Every epoch's results
are an attribute of the trial, so that MLflow can be brought up to date from here at any time.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from sqtune.config.parameters import ChoiceParameter, FloatParameter, IntParameter, label
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.errors import StudyError, did_you_mean
from sqtune.search.records import State, TrialRecord
from sqtune.search.storage import study_names

STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "interrupted",
    TrialState.COMPLETE: "finished",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "failed",
}
EPOCH = "epoch."  # trial attributes: epoch.00001, epoch.00002, ...


class Study:
    """A study in a storage. `create_or_continue` to drive it, `load` to look at it."""

    def __init__(self, study: optuna.Study, space: SearchSpace) -> None:
        self._study = study
        self.space = space
        self._ids: dict[int, int] = {}  # trial number -> storage's trial id
        self._logged: dict[int, dict[str, Any]] = {}  # epochs of running trials that are stored

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

    @classmethod
    def create_or_continue(
        cls,
        storage: BaseStorage,
        space: SearchSpace,
        provenance: Mapping[str, str],
        files: Mapping[str, str] | None = None,
    ) -> Study:
        """Create the study of a space, or take up the one there is.

        `files` are the sha256 of the weights that trials start from, by path.

        Trials that an earlier driver left unfinished become the next ones to be asked for, with
        their number and parameters.

        Raises:
            StudyError: There is one of the same name with another space.
        """
        if space.name in study_names(storage):
            study = cls.load(storage, space.name)
            study.refuse_changes(space)
            study.refuse_other_files(files or {})
            study.space = space
        else:
            created = optuna.create_study(  # there is one if a driver was killed at this point
                storage=storage,
                study_name=space.name,
                direction="minimize",
                load_if_exists=True,
            )
            study = cls(created, space)
            study.set_attr("uuid", uuid.uuid4().hex)
            study.set_attr("provenance", dict(provenance))
            study.set_attr("files", dict(files or {}))
        study.set_attr("space", space.model_dump_json(by_alias=True))
        study.set_attr("driven_at", time.time())
        study.release_unfinished()
        return study

    @classmethod
    def load(cls, storage: BaseStorage, name: str | None) -> Study:
        """Load a study by name; None takes the one that was driven last.

        Raises:
            StudyError: There is none.
        """
        names = study_names(storage)
        if not names:
            raise StudyError(
                "there is no study here yet. Start one: "
                "sqtune search --space search_spaces/resnet.yaml"
            )
        if name is not None and name not in names:
            raise StudyError(f'there is no study "{name}". {did_you_mean(name, names)}')
        study = optuna.load_study(study_name=name or names[-1], storage=storage)
        return cls(study, SearchSpace.model_validate_json(study.user_attrs["space"]))

    def refuse_changes(self, space: SearchSpace) -> None:
        """Raise StudyError, naming what differs, where trials of `space` would not compare."""
        _refuse_changes(self.space, space)

    def refuse_other_files(self, files: Mapping[str, str]) -> None:
        """Raise StudyError where weights that trials start from are no longer the same."""
        stored = self.attrs.get("files", {})
        for path, digest in files.items():
            if stored.get(path, digest) != digest:
                raise StudyError(
                    f'the study "{self.name}" started from other weights: {path} has changed '
                    "since. Its trials would not compare. Give --name to start another study, or "
                    "put the file back."
                )

    def release_unfinished(self) -> list[int]:
        """Make the unfinished trials the next ones to be asked for; return their numbers.

        Call it only where no driver trains them any more.
        """
        storage, released = self._study._storage, []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            released.append(trial.number)
        self._logged.clear()
        return released

    def ask(self) -> TrialRecord:
        """Propose the next trial; interrupted ones come first, with the same number and values.

        Proposals depend on the sampler's seed, the trial's number and the trials finished so far,
        not on when the study was reopened.
        """
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        number = waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._sampler(number, "")
        trial = self._study.ask()
        values: dict[str, Any] = {}
        for path, parameter in self.space.active(values):
            self._study.sampler = self._sampler(number, path)
            values[path] = _suggest(trial, path, parameter)
        config = self.space.config(values)
        trial.set_user_attr("config", config.model_dump_json())
        self._ids[trial.number] = trial._trial_id
        stored = trial.user_attrs
        self._logged[trial.number] = {k: v for k, v in stored.items() if k.startswith(EPOCH)}
        return self.trial(trial.number)

    def _sampler(self, number: int, path: str) -> optuna.samplers.BaseSampler:
        text = f"{self.space.search.seed}:{number}:{path}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        if self.space.search.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            # `group` splits a conditional space into parts that are sampled jointly.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Store an epoch's metrics and return them with their time ("time", ms since 1970).

        A trial that is trained again gives the same results again; then the first time stays, so
        that nothing is recorded twice.
        """
        key = f"{EPOCH}{epoch:05d}"
        stored = self._logged.get(number, {}).get(key)
        if stored is not None and stored["val_error"] == metrics["val_error"]:
            return dict(stored)
        record = {**metrics, "time": int(time.time() * 1000)}
        self._logged.setdefault(number, {})[key] = record
        storage, trial_id = self._study._storage, self._ids[number]
        storage.set_trial_user_attr(trial_id, key, record)
        storage.set_trial_intermediate_value(trial_id, epoch, metrics["val_error"])
        return record

    def trial_last_error(self, number: int) -> float:
        """Return the validation error (0..1) that a running trial reported last."""
        epochs = self._logged[number]
        return float(epochs[max(epochs)]["val_error"])

    def finish(self, number: int, val_error: float, facts: Mapping[str, Any]) -> None:
        """End a trial with its last epoch's validation error (0..1)."""
        self._set_trial_attr(number, "facts", dict(facts))
        self._study.tell(number, val_error)
        self._logged.pop(number, None)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that cannot go on."""
        self._set_trial_attr(number, "failure", reason)
        self._study.tell(number, state=TrialState.FAIL)
        self._logged.pop(number, None)

    def set_run_id(self, number: int, run_id: str) -> None:
        """Store a running trial's MLflow run; of one that has ended, MLflow itself knows it."""
        trial_id = self._ids.get(number)
        if trial_id is not None and number in self._logged:
            self._study._storage.set_trial_user_attr(trial_id, "run_id", run_id)

    def set_test_error(self, number: int, test_error: float) -> None:
        """Store the error (0..1) on the test split of a trial that was chosen."""
        self.set_attr("test_errors", {**self.attrs.get("test_errors", {}), str(number): test_error})

    def _set_trial_attr(self, number: int, key: str, value: Any) -> None:
        self._study._storage.set_trial_user_attr(self._ids[number], key, value)

    def trial(self, number: int) -> TrialRecord:
        """Return one trial."""
        trials = self._study.get_trials(deepcopy=False)
        return self._record(trials[number], self.attrs.get("test_errors", {}))

    def trials(self) -> list[TrialRecord]:
        """Return all trials that have a configuration, by number."""
        test_errors = self.attrs.get("test_errors", {})
        trials = self._study.get_trials(deepcopy=False)
        return [
            self._record(trial, test_errors) for trial in trials if "config" in trial.user_attrs
        ]

    def _record(self, trial: FrozenTrial, test_errors: Mapping[str, float]) -> TrialRecord:
        attrs = trial.user_attrs
        return TrialRecord(
            number=trial.number,
            state=STATES[trial.state],
            values=dict(trial.params),
            config=TrialConfig.model_validate_json(attrs["config"]),
            epochs=tuple(attrs[key] for key in sorted(attrs) if key.startswith(EPOCH)),
            facts=attrs.get("facts", {}),
            failure=attrs.get("failure"),
            run_id=attrs.get("run_id"),
            test_error=test_errors.get(str(trial.number)),
        )


def _suggest(trial: optuna.Trial, path: str, parameter: object) -> Any:
    match parameter:
        case ChoiceParameter(choice=choice):
            names = {_choice_name(value): value for value in choice}
            return names[trial.suggest_categorical(path, list(names))]
        case IntParameter(bounds=(low, high)):
            high = low + (high - low) // parameter.step * parameter.step
            return trial.suggest_int(path, low, high, step=parameter.step, log=parameter.log)
        case FloatParameter(bounds=(low, high)):
            return trial.suggest_float(path, low, high, step=parameter.step, log=parameter.log)
    raise TypeError(f"{type(parameter).__name__} is no parameter")


def _choice_name(value: Any) -> Any:
    """Return what Optuna stores for a choice: plain values themselves, others by their label."""
    return label(value) if isinstance(value, dict | list) else value


def _refuse_changes(stored: SearchSpace, given: SearchSpace) -> None:
    before, after = stored.guard(), given.guard()
    changes = [
        f"  {path}: {_shown(before, path)} -> {_shown(after, path)}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]
    if changes:
        raise StudyError(
            f'the study "{given.name}" exists with another space:\n'
            + "\n".join(changes)
            + "\nIts trials would not compare. Give --name to start another study, or put the "
            "values back to continue this one."
        )


def _shown(values: Mapping[str, Any], path: str) -> str:
    return json.dumps(values[path]) if path in values else "(not there)"

"""The study that is driven: what is asked of it, reported and told. Only one process drives it.

Optuna's storage is the one truth about trials; how they stand there is said in `stored.py`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES as NAMES
from optuna.trial import TrialState

from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.search.driven import DrivenStorage, for_driving
from sqtune.search.fit import Measure, store_footprint
from sqtune.search.propose import Proposals
from sqtune.search.records import TrialRecord
from sqtune.search.samplers import require_packages
from sqtune.search.storage import study_names
from sqtune.search.stored import (
    CONFIG,
    DUPLICATE_OF,
    FACTS,
    FAILURE,
    PAUSED,
    REFUSED,
    STOPPED,
    Running,
    digest,
    epoch_key,
    epochs_of,
    finished_configurations,
)
from sqtune.search.view import StudyView
from sqtune.search.warm_start import WarmStart, take_over

HeldLike = Callable[[TrialConfig], int | None]  # the held trial of an equal configuration


class Study(StudyView):
    """A study that is driven. `create_or_continue` opens it."""

    def __init__(self, study: optuna.Study, space: SearchSpace) -> None:
        super().__init__(study, space)
        self._proposals: Proposals | None = None
        self._footprint: Measure | None = None
        self._running: dict[int, Running] = {}
        self._finished: dict[bytes, int] = {}  # by the configuration's digest

    @classmethod
    def create_or_continue(
        cls,
        storage: BaseStorage,
        space: SearchSpace,
        provenance: Mapping[str, str],
        files: Mapping[str, str] | None = None,
        *,
        footprint: Measure | None = None,
        marks: Mapping[str, Any] = MappingProxyType({}),
    ) -> Study:
        """Create the study of a space, or take up the one there is.

        Trials that an earlier driver left unfinished become the next ones to be asked for, with
        their number and parameters, but for those that were paused. Points that are new follow.

        Args:
            storage: Where it is kept.
            space: What is searched.
            provenance: Versions, commit and device of the study's beginning.
            files: sha256 of all that trials start from or learn, by where it is from.
            footprint: What a configuration will take; it is needed for targets and for objectives
                beside val_error.
            marks: Further attributes, such as `confirms`, the study whose best are trained again.

        Raises:
            StudyError: There is one of the same name with another space, or it or the one that it
                confirms is of other files.
            ConfigError: The sampler cannot be used.
        """
        require_packages(space.search.sampler)
        storage = for_driving(storage)
        if "confirms" in marks:
            cls.load(storage, marks["confirms"]).refuse_other_files(files or {})
        if space.name in study_names(storage):
            study = cls.load(storage, space.name)
            study.refuse_changes(space)
            study.refuse_other_files(files or {})
            study.space = space
        else:
            created = optuna.create_study(  # there is one if a driver was killed at this point
                storage=storage,
                study_name=space.name,
                directions=["minimize"] * len(space.search.objectives),
                load_if_exists=True,
            )
            storage.set_study_system_attr(created._study_id, NAMES, list(space.search.objectives))
            study = cls(created, space)
            study.set_attr("uuid", uuid.uuid4().hex)
            study.set_attr("provenance", dict(provenance))
            study.set_attr("files", dict(files or {}))
        study.set_attr("space", space.model_dump_json(by_alias=True))
        for mark, value in {**marks, "driven_at": time.time()}.items():
            study.set_attr(mark, value)
        if isinstance(storage, DrivenStorage):
            storage.drive(study._study._study_id)
        study._footprint = footprint
        study.release_unfinished()
        study._proposals = Proposals(study._study, space)
        study._finished = finished_configurations(study._study.get_trials(deepcopy=False))
        return study

    def release_unfinished(self) -> list[int]:
        """Make the unfinished trials the next ones to be asked for; return their numbers.

        Paused ones stay paused, and an end that was half told is told. Call it only where no driver
        trains them any more.
        """
        released = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            attrs = trial.user_attrs
            if attrs.keys() & {STOPPED, REFUSED}:
                self._study.tell(trial.number, state=TrialState.PRUNED)
            elif FAILURE in attrs:
                self._study.tell(trial.number, state=TrialState.FAIL)
            elif attrs.get(PAUSED) is None:
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
                released.append(trial.number)
        self._running.clear()
        if self._proposals is not None:
            self._proposals.put_back(released)
        return released

    def ask(self, held_like: HeldLike | None = None) -> TrialRecord | None:
        """Propose the next trial; interrupted ones and points come first. None: no more.

        It comes back ended where it costs nothing: `refused` where it does not fit the target, or
        `held_like` returns an equal one, or `finished`, with `duplicate_of`, where an equal one has
        finished. When the study was reopened does not matter to what is proposed.
        """
        assert self._proposals is not None, "a study that is only looked at proposes nothing"
        proposal = self._proposals.next()
        if proposal is None:
            return None
        trial, values = proposal
        config = self.space.config(values)
        text, epochs = config.model_dump_json(), epochs_of(trial.user_attrs)
        opened = Running(trial._trial_id, config, text, epochs)
        self._running[trial.number] = opened
        trial.set_user_attr(CONFIG, opened.text)
        refusal = store_footprint(trial, config, self._footprint, self.space.target)
        if refusal is not None:
            self._end(trial.number, TrialState.PRUNED, REFUSED, refusal)
        else:
            self.settle_duplicate(trial.number, held_like and held_like(config))
        self._proposals.settled(trial._trial_id)
        return self.trial(trial.number)

    @property
    def exhausted(self) -> str | None:
        """Why `ask()` has nothing more to propose; None as long as it has."""
        return None if self._proposals is None else self._proposals.exhausted

    def twin(self, number: int) -> int | None:
        """Return the number of an earlier running trial with an equal configuration, if any.

        Once that one has finished, `settle_duplicate` ends this one at no cost.
        """
        text = self._open(number).text
        alike = (
            other for other, one in self._running.items() if one.text == text and other < number
        )
        return min(alike, default=None)

    def settle_duplicate(self, number: int, held: int | None = None) -> bool:
        """End an open trial as one that finished or, refused, as one that was held; tell if so."""
        opened = self._open(number)
        twin = self._finished.get(digest(opened.text))
        if twin is None and held is not None:
            why = f"it repeats trial {held}, which was held at a rung"
            self._end(number, TrialState.PRUNED, REFUSED, why)
        if twin is None:
            return held is not None
        values = self._storage.get_trial(self._id(twin)).values
        self._storage.set_trial_user_attr(opened.trial_id, DUPLICATE_OF, twin)
        self._study.tell(number, values)
        del self._running[number]
        return True

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Store an epoch's metrics and return them with their time ("time", ms since 1970).

        A trial that is trained again gives the same results again; then the first time stays, so
        that nothing is recorded twice. Metrics that mean nothing yet, such as val_error before
        anything is quantized, are left out.
        """
        opened, key = self._open(number), epoch_key(epoch)
        compared = "val_error" if "val_error" in metrics else "train_loss"
        stored = opened.epochs.get(key)
        if stored is not None and stored.get(compared) == metrics[compared]:
            return dict(stored)
        record = {**metrics, "time": int(time.time() * 1000)}
        opened.epochs[key] = record
        self._storage.set_trial_user_attr(opened.trial_id, key, record)
        if "val_error" in metrics and len(self.space.search.objectives) == 1:
            self._storage.set_trial_intermediate_value(
                opened.trial_id, epoch, metrics["val_error"]
            )  # with several objectives Optuna's TPE fails on them
        return record

    def num_epochs(self, number: int) -> int:
        """Return how many epochs a running trial has reported."""
        return len(self._open(number).epochs)

    def trial_last_error(self, number: int) -> float:
        """Return the validation error (0..1) that a running trial reported last."""
        epochs = self._open(number).epochs
        return float(epochs[max(epochs)]["val_error"])

    def finish(self, number: int, val_error: float, facts: Mapping[str, Any]) -> None:
        """End a trial with its last epoch's validation error (0..1) and what else is known of it.

        Other objectives are taken from the facts, to which those of the footprint belong already.
        """
        opened = self._open(number)
        known = self._storage.get_trial(opened.trial_id).user_attrs.get(FACTS, {})
        facts = {**known, **facts}
        values = [
            val_error if name == "val_error" else float(facts[name])
            for name in self.space.search.objectives
        ]
        self._storage.set_trial_user_attr(opened.trial_id, FACTS, facts)
        self._study.tell(number, values)
        self._finished.setdefault(digest(opened.text), number)
        del self._running[number]

    def fail(self, number: int, reason: str) -> None:
        """End a trial that cannot go on."""
        self._end(number, TrialState.FAIL, FAILURE, reason)

    def stop(self, number: int, epoch: int, why: str) -> None:
        """End a trial early, at the rung after an epoch. It is no candidate for best."""
        self._end(number, TrialState.PRUNED, STOPPED, {"epoch": epoch, "why": why})

    def _open(self, number: int) -> Running:
        """Return a running trial; one that was paused is read from the storage."""
        if number not in self._running:
            trial = self._storage.get_trial(self._id(number))
            text = trial.user_attrs[CONFIG]
            config = TrialConfig.model_validate_json(text)
            self._running[number] = Running(
                trial._trial_id, config, text, epochs_of(trial.user_attrs)
            )
        return self._running[number]

    def _config(self, number: int) -> TrialConfig | None:
        return self._running[number].config if number in self._running else None

    def _end(self, number: int, state: TrialState, key: str, why: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, why)
        self._study.tell(number, state=state)
        self._running.pop(number, None)

    def pause(self, number: int, epoch: int) -> None:
        """Let a trial wait at the rung after an epoch, also while nobody drives the study."""
        self._storage.set_trial_user_attr(self._id(number), PAUSED, epoch)
        self._running.pop(number, None)

    def resume(self, number: int) -> TrialRecord:
        """Let a paused trial go on."""
        self._storage.set_trial_user_attr(self._id(number), PAUSED, None)
        self._open(number)
        return self.trial(number)

    def close_paused(self) -> list[int]:
        """Stop the trials that are paused, as the study ends; return their numbers."""
        closed = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            epoch = trial.user_attrs.get(PAUSED)
            if epoch is not None:
                why = f"it waited at epoch {epoch} until the search ended"
                self.stop(trial.number, epoch, why)
                closed.append(trial.number)
        return closed

    def warm_start(self, other: StudyView) -> WarmStart:
        """Let the sampler learn from another study's finished trials; they are none of this one.

        Those that were taken before are not taken again.
        """
        result = take_over(self._study, self.space, other, self._footprint)
        if self._proposals is not None:
            self._proposals.added(len(result.taken))
        return result

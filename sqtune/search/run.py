"""One search from start to end: propose, execute, record, name the best."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from sqtune.config.space import SearchSpace
from sqtune.provenance import provenance
from sqtune.search.machine import this_machine
from sqtune.search.pareto import best
from sqtune.search.prepare import file_hashes, prepare_data, prepared
from sqtune.search.progress import Progress
from sqtune.search.record import hand_over, record_study, recorded_end
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_storage, study_names
from sqtune.search.study import Study
from sqtune.store import Store
from sqtune.tracking import Tracker

Ending = Literal["complete", "interrupted", "time limit"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search came to.

    Attributes:
        study: The study's name.
        ending: Whether all trials ended, or what came before that.
        trials: All trials.
        best: The best network; None if no trial finished.
        network: Its folder.
        tracking_problem: Why MLflow does not have everything; None if it has.
    """

    study: str
    ending: Ending
    trials: list[TrialRecord]
    best: TrialRecord | None
    network: Path | None
    tracking_problem: str | None


@dataclass(frozen=True, slots=True)
class Places:
    """Where a search keeps things.

    Attributes:
        store: The store.
        study_storage: URL of Optuna's storage; None for the store's journal.
        tracking_uri: MLflow's tracking URI; None for the store's database.
    """

    store: Store
    study_storage: str | None = None
    tracking_uri: str | None = None


class _Driver:
    """Stands between study, executor, tracker and progress while trials run (a TrialSource)."""

    def __init__(
        self, study: Study, tracker: Tracker, progress: Progress, store: Store, ended: int
    ) -> None:
        self.study, self.tracker, self.progress, self.store = study, tracker, progress, store
        self.running: dict[int, TrialRecord] = {}
        self.ended = ended
        self.interrupted = False
        limit = study.space.search.time_limit_seconds
        self.deadline = None if limit is None else time.monotonic() + limit

    def next_trial(self) -> Any:
        from sqtune.search.executor import Assignment

        space = self.study.space
        if self.ended + len(self.running) >= space.search.num_trials or self.should_stop():
            return None
        trial = self.study.ask()
        self.running[trial.number] = trial
        self.tracker.start_trial(trial.number, trial.config.flat())
        self.progress.trial_started(trial)
        return Assignment(
            number=trial.number,
            config=trial.config.model_dump_json(),
            data=str(prepared(trial, self.store)),
            save_to=str(self.store.network(space.name, trial.number)),
            num_threads=space.resources.num_threads,
            device="cuda" if space.resources.gpus else "cpu",
        )

    def on_epochs(self, number: int, epochs: list[dict[str, float]]) -> None:
        for result in epochs:
            metrics = {key: value for key, value in result.items() if key != "epoch"}
            record = self.study.report(number, int(result["epoch"]), metrics)
            self.tracker.log_epoch(number, {"epoch": result["epoch"], **record})
            self.progress.epoch_done(number, result)

    def on_end(self, number: int, facts: dict[str, Any]) -> None:
        val_error = self.study.trial_last_error(number)
        self.study.finish(number, val_error, facts)
        self._ended(number)

    def on_failure(self, number: int, reason: str) -> None:
        self.study.fail(number, reason)
        self._ended(number)

    def _ended(self, number: int) -> None:
        trial = self.study.trial(number)
        self.running.pop(number, None)
        self.ended += 1
        self.tracker.end_trial(number, **recorded_end(trial, self.store, self.study.name))
        self.progress.trial_ended(trial)

    def on_tick(self) -> None:
        while not self.tracker.new_run_ids.empty():
            self.study.set_run_id(*self.tracker.new_run_ids.get())
        self.progress.tick()

    def should_stop(self) -> bool:
        return self.interrupted or (self.deadline is not None and time.monotonic() >= self.deadline)


def run_search(space: SearchSpace, space_text: str, places: Places, progress: Progress) -> Outcome:
    """Run a search, or go on with it, until its trials have ended or somebody stops it.

    Args:
        space: What to search.
        space_text: The space file as it was written, for the record.
        places: Where things are kept.
        progress: Where to show how it goes.

    Raises:
        StudyError: The study exists with another space.
        StoreError: The store is in use or cannot be written.
        DataError, NetworkError: The data are missing or do not suit the network.
        ResourceError: Not even one trial fits this machine.
        TrackingError: A tracking store that was named does not answer.
    """
    store = places.store
    if store.journal.exists() and places.study_storage is None:
        storage = open_storage(store, None)
        if space.name in study_names(storage):
            Study.load(storage, space.name).refuse_changes(space)
    data, files = prepare_data(space, store), file_hashes(space)
    this_machine(space.resources)
    store.create()
    with store.driven(space.name):
        for path, splits in data.items():
            from sqtune.data.split import write_prepared

            write_prepared(splits, path)
        artifacts = store.artifacts if places.tracking_uri is None else None
        tracker = Tracker(places.tracking_uri or store.tracking_uri, artifacts, space.name)
        try:
            if places.tracking_uri is not None:
                tracker.wait_until_connected()
            storage = open_storage(store, places.study_storage, mend=True)
            study = Study.create_or_continue(storage, space, provenance(), files)
            return _drive(study, space_text, places, tracker, progress)
        finally:
            tracker.close()


def _drive(
    study: Study, space_text: str, places: Places, tracker: Tracker, progress: Progress
) -> Outcome:
    space, store = study.space, places.store
    record_study(study, space_text, tracker, store)
    ended = [trial for trial in study.trials() if trial.state in ("finished", "failed")]
    driver = _Driver(study, tracker, progress, store, len(ended))
    with _stopped_by_signals(driver):
        if driver.ended < space.search.num_trials:
            if ended:
                progress.say(f'continuing "{study.name}": {len(ended)} trials have ended')
            _run(driver, progress, ended)
        return _wrap_up(driver)


def _wrap_up(driver: _Driver) -> Outcome:
    """Leave study and MLflow consistent, whatever ended the trials, and name the best."""
    study, tracker, store = driver.study, driver.tracker, driver.store
    ending: Ending = "complete"
    if driver.ended < study.space.search.num_trials:
        ending = "interrupted" if driver.interrupted else "time limit"
    for number in study.release_unfinished():
        tracker.end_trial(number, "KILLED")
    top = best(study.trials())
    if top is not None and ending == "complete":
        hand_over(study, top, tracker, store)
    trials = study.trials()
    metrics = {"trials_ended": float(driver.ended)}
    if top is not None and top.val_error is not None:
        metrics["best_val_error"] = top.val_error
    tracker.end_study("FINISHED" if ending == "complete" else "KILLED", metrics)
    tracker.close()
    return Outcome(
        study=study.name,
        ending=ending,
        trials=trials,
        best=best(trials),
        network=None if top is None else store.network(study.name, top.number),
        tracking_problem=None if tracker.error is None else str(tracker.error),
    )


def _run(driver: _Driver, progress: Progress, ended: list[TrialRecord]) -> None:
    progress.say("starting Ray on this machine ...")
    from sqtune.search.executor import local_ray, run_trials

    space = driver.study.space
    machine = this_machine(space.resources)
    with local_ray(machine.cpus, machine.gpus):
        most_slots = machine.slots
        wanted = space.search.max_concurrent or most_slots
        num_slots = min(wanted, most_slots, space.search.num_trials - driver.ended)
        progress.say(
            f'study "{space.name}": {space.search.num_trials - driver.ended} trials to go, '
            f"{num_slots} at once"
        )
        progress.begin(space.search.num_trials, ended)
        try:
            run_trials(
                driver,
                space.resources,
                num_slots=num_slots,
                most=space.search.num_trials - driver.ended,
                folder=driver.store.ray(space.name),
            )
        except KeyboardInterrupt:  # the second one
            driver.interrupted = True
        finally:
            progress.end()
            shutil.rmtree(driver.store.ray(space.name), ignore_errors=True)


@contextmanager
def _stopped_by_signals(driver: _Driver) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the search in good order; a second one ends it at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if driver.interrupted:
            raise KeyboardInterrupt
        driver.interrupted = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

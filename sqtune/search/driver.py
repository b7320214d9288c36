"""The driver: stands between study, executor, tracker and progress while trials run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from sqtune.search.courses import Courses
from sqtune.search.halving import Halving
from sqtune.search.limits import Ending, Limits
from sqtune.search.mishaps import Death, Mishaps
from sqtune.search.progress import Progress
from sqtune.search.record import figures, record_run_ids, recorded_end
from sqtune.search.records import TrialRecord
from sqtune.search.sharing import Course
from sqtune.search.study import Study
from sqtune.search.worker import Assignment
from sqtune.store import Store
from sqtune.tracking import Tracker

WAITING_PER_SLOT = 4  # trials that wait for a stage, at most, while others are asked for
BUSY_SECONDS = 5.0  # before a stage that another study trains is looked at again


@dataclass(slots=True)
class _Waiting:
    """A trial that waits for a stage.

    Attributes:
        trial: The trial.
        course: What it trains.
        behind: The trial that trains it, where that is one of this study.
        not_before: When it is looked at again (monotonic seconds).
    """

    trial: TrialRecord
    course: Course
    behind: int | None = None
    not_before: float = 0.0


class Driver:
    """Decides what is trained next and what becomes of reports (an executor's TrialSource).

    Args:
        study: The study.
        tracker: Told of everything.
        progress: Shown everything.
        store: Where networks and logs lie.
        limits: When the search ends before its trials have.
        courses: What trials train, and which of them begin alike.
        num_slots: Trials at once.

    Attributes:
        mishaps: What befalls workers, and what GPUs trials get.
        num_slots: Trials at once; it may change.
    """

    def __init__(
        self,
        study: Study,
        tracker: Tracker,
        progress: Progress,
        store: Store,
        limits: Limits,
        courses: Courses,
        *,
        num_slots: int,
    ) -> None:
        self.study, self.tracker, self.progress, self.store = study, tracker, progress, store
        self.limits, self._courses, self._sharing = limits, courses, courses.sharing
        self.num_slots, self.say = num_slots, progress.say
        search = study.space.search
        several = len(search.objectives) > 1
        self._halving = Halving(search.early_stopping, several_objectives=several)
        self._running: dict[int, TrialRecord] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._returned: list[int] = []
        self.mishaps = Mishaps(study.space.resources.known_gpus, progress.say)
        self._known: dict[int, Course] = {}  # of trials that have not ended
        self.counted = 0  # trials that ended and count
        for trial in study.trials():
            self.counted += trial.counts
            self.limits.known(trial)
            self._halving.take_up(trial)

    @property
    def committed(self) -> int:
        """Trials that count and have been begun."""
        return self.counted + len(self._running) + len(self._waiting) + self._halving.num_held

    def next_trial(self) -> Assignment | Literal["wait", "end"]:
        """Return the next leg: what was given back, what is promoted, what waited, what is new."""
        if self.should_stop() or self.limits.soon():
            return "end"
        if self.mishaps.room_wanted and not self._returned:
            return "wait"
        if promoted := self._promoted():
            return self._begin(promoted, passed=len(promoted.epochs))
        if trial := self._given_back() or self._waited() or self._proposed():
            return self._begin(trial)
        return "wait" if self._running or self._waiting else "end"

    def _given_back(self) -> TrialRecord | None:
        return self._running[self._returned.pop(0)] if self._returned else None

    def _promoted(self) -> TrialRecord | None:
        for number in self._halving.promotable():
            self._halving.release(number)
            return self.study.resume(number)
        return None

    def _waited(self) -> TrialRecord | None:
        now = time.monotonic()
        for number, waiting in list(self._waiting.items()):
            if waiting.behind is not None and self._sharing.blocks(waiting.behind, waiting.course):
                continue  # to look closer takes time, and may ask a server for its files
            held = self._halving.held_like(waiting.trial.config)
            if self.study.settle_duplicate(number, held):
                del self._waiting[number]
                self._ended_at_once(self.study.trial(number))
            elif now >= waiting.not_before:
                waiting.behind = self._behind(waiting.trial, waiting.course)
                if waiting.behind is None:
                    del self._waiting[number]
                    return waiting.trial
        return None

    def _proposed(self) -> TrialRecord | None:
        """Return a new trial that can be trained now; those that have to wait are put aside."""
        while (
            self.committed < self.study.space.search.num_trials
            and len(self._waiting) < WAITING_PER_SLOT * self.num_slots
            and not self.limits.soon()
            and not self.should_stop()
        ):
            trial = self.study.ask(self._halving.held_like)
            if trial is None:
                return None
            if trial.state != "running":
                self._ended_at_once(trial)
                continue
            course = self._course(trial)
            behind = self._behind(trial, course)
            if behind is None:
                return trial
            self._waiting[trial.number] = _Waiting(trial, course, behind)
        return None

    def _course(self, trial: TrialRecord) -> Course:
        """Return what a trial trains; of one that has been begun it is known."""
        if trial.number not in self._known:
            self._known[trial.number] = self._courses.course(trial.config)
        return self._known[trial.number]

    def _behind(self, trial: TrialRecord, course: Course) -> int | None:
        """Return who is training, or about to, what a trial needs next; None if nobody is."""
        twin = self.study.twin(trial.number)
        return self._sharing.waits_for(course) if twin is None else twin

    def _begin(self, trial: TrialRecord, passed: int = 0) -> Assignment:
        """Return a trial's next leg; rungs up to the epoch `passed` are behind it."""
        number = trial.number
        self._running[number] = trial
        self._sharing.begin(number, self._course(trial))
        self.tracker.start_trial(number, trial.config.flat())
        self.progress.trial_started(trial)
        passed = max(passed, self.study.num_epochs(number) - 1)  # its rung may be undecided yet
        rungs = self._halving.begin(trial, passed)
        return self._courses.leg(trial, rungs, self.mishaps.gpus_of(number))

    def on_report(self, report: dict[str, Any]) -> bool:
        """Store a report; end the leg where the trial has ended, is held at a rung, or is to."""
        number = report["number"]
        if number not in self._running:
            return True
        self.mishaps.placed(number, report.get("node_id", ""))
        self.progress.reported(report)
        for result in report["epochs"]:
            self._on_epoch(number, result)
        if "failure" in report:
            self.study.fail(number, report["failure"])
            self._ended(number)
        elif "facts" in report:
            self.study.finish(number, self.study.trial_last_error(number), report["facts"])
            self._ended(number)
        elif "out_of_memory" in report:
            self._begin_again(number, self.mishaps.ran_out(number, report["out_of_memory"]))
        elif "unwritable" in report:
            self.limits.hindrance = "unwritable", report["unwritable"]
            self._leave(number)
        elif "unsuited" in report:
            self.limits.hindrance = "unsuited node", report["unsuited"]
            self._leave(number)
        elif "busy" in report:
            self._give_way(number)
        elif self._held(number, report["epochs"]):
            return True
        elif self.limits.soon():
            self._leave(number)
        else:
            return False
        return True

    def _on_epoch(self, number: int, result: dict[str, float]) -> None:
        epoch = int(result["epoch"])
        metrics = {key: value for key, value in result.items() if key != "epoch"}
        record = self.study.report(number, epoch, metrics)
        self.tracker.log_epoch(number, {"epoch": epoch, **figures(record)})
        self._sharing.progress(number, epoch)
        self.limits.trained(result["seconds"])
        self._halving.note(self._running[number], epoch, record)

    def _held(self, number: int, epochs: list[dict[str, float]]) -> bool:
        """Stop or pause a trial that has come to a rung and is not among the better part."""
        epoch = self._halving.stops_at(number, {int(result["epoch"]) for result in epochs})
        if epoch is None:
            return False
        if self._halving.pauses:
            self.study.pause(number, epoch)
            self._halving.hold(self._running[number], epoch)
            self.progress.trial_paused(number)
            self._leave(number)
        else:
            self.study.stop(number, epoch, f"not among the better part after epoch {epoch}")
            self._halving.stop(self._running[number])
            self._ended(number)
        return True

    def _give_way(self, number: int) -> None:
        """Put a trial aside until another study has trained what it needs."""
        trial = self._running[number]
        self._leave(number)
        later = time.monotonic() + BUSY_SECONDS
        self._waiting[number] = _Waiting(trial, self._course(trial), not_before=later)

    def _leave(self, number: int) -> None:
        """Leave a trial where it is."""
        self._running.pop(number)
        self.progress.trial_left(number)
        self.mishaps.placed(number)
        self._sharing.end(number)

    def on_return(self, number: int) -> None:
        """Take back a trial whose leg was ended in between."""
        self._sharing.end(number)
        self._returned.append(number)

    def on_death(self, number: int, death: Death) -> None:
        """Begin a trial again whose worker died; fail one whose workers die in the same epoch."""
        if number not in self._running:
            return
        num_epochs = self.study.num_epochs(number)
        log = self.store.log(self.study.name, number)
        self._begin_again(number, self.mishaps.died(number, death, num_epochs, log))

    def _begin_again(self, number: int, failure: str | None) -> None:
        if failure is None:
            self.on_return(number)
        else:
            self.study.fail(number, failure)
            self._ended(number)

    def _ended(self, number: int) -> None:
        trial = self.study.trial(number)
        self._running.pop(number, None)
        self._known.pop(number, None)
        self.mishaps.forget(number)
        self._halving.end(number)
        self._sharing.end(number)
        self._ended_at_once(trial)
        ended = recorded_end(trial, self.store, self.study.name)
        self.tracker.end_trial(number, **ended)

    def _ended_at_once(self, trial: TrialRecord) -> None:
        """Take in a trial that ended, also one that was never trained."""
        self.counted += trial.counts
        self.limits.ended(trial)
        self.progress.trial_ended(trial)

    def ending(self) -> Ending:
        """Return why the search ended."""
        if self.limits.now() == "taken over":
            return "taken over"
        left = self._running or self._waiting or self._halving.promotable()
        if self.committed >= self.study.space.search.num_trials and not left:
            return "complete"
        ending = self.limits.now() or self.limits.soon()
        return ending or ("exhausted" if self.study.exhausted else "complete")

    def on_tick(self) -> None:
        """Do what is done between reports."""
        record_run_ids(self.study, self.tracker)
        self.progress.tick()

    def should_stop(self) -> bool:
        """Tell whether running trials are left where they are."""
        return self.limits.now() is not None

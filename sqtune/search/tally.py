"""What has happened in a search so far. A look at it takes as long after 10,000 trials as after 10.

Times are seconds of one clock, whichever it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqtune.search.pareto import best, front
from sqtune.search.records import TrialRecord
from sqtune.search.time_left import Pace

MOST_OTHERS = 1000  # trials off the front whose error and size are remembered
TAKEN = ("resident_bytes", "gpu_bytes", "gpu_total_bytes")  # of a worker's report


@dataclass(slots=True)
class Begun:
    """A trial that has begun and not ended.

    Attributes:
        trial: As it was when it began.
        since: When it began, or went on.
        stage_ends: The last epoch of each stage.
        epoch: Its last epoch; 0 before the first has ended.
        metrics: That epoch's results.
        trained: Epochs trained for it.
        shared: Epochs that another trial trained.
        seconds: What those took that were trained since it began, or went on.
        counted: How many these are.
        last: When the last report came.
        taken: What its worker takes of memory, as far as it is known (see `TAKEN`).
    """

    trial: TrialRecord
    since: float
    stage_ends: tuple[int, ...]
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    trained: int = 0
    shared: int = 0
    seconds: float = 0.0
    counted: int = 0
    last: float = 0.0
    taken: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: TrialRecord, now: float) -> Begun:
        """Return a trial that begins, or goes on from what is known of it."""
        from sqtune.train.stages import stage_ends

        return cls(
            trial,
            now,
            stage_ends(trial.config),
            epoch=len(trial.epochs),
            metrics=trial.epochs[-1] if trial.epochs else {},
            trained=trial.epochs_trained,
            shared=trial.epochs_shared,
        )

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole training."""
        return self.trial.config.num_epochs

    @property
    def stage(self) -> int:
        """The stage (from 1) of its last epoch."""
        return bisect_left(self.stage_ends, max(1, self.epoch)) + 1

    @property
    def ratio(self) -> float | None:
        """The last epoch's ratio; None before the first has ended."""
        return self.metrics.get("ratio")

    @property
    def val_error(self) -> float | None:
        """The last epoch's validation error (0..1), all weights quantized; None where none is."""
        return self.metrics.get("val_error")


class Tally:
    """Trials and epochs of a search, as they come.

    Args:
        target: Trials that are to end.

    Attributes:
        target: Likewise.
        counts: Ended trials by state; those that repeat another are `repeated`.
        trained: Epochs trained.
        shared: Epochs that another trial trained.
        not_begun: Epochs of trials that have ended which were never begun.
        best: The best trial.
        front: Those that no other equals or beats in error and size, best error first.
        others: Error (0..1) and size (bytes) of the last 1,000 of the others.
        slots: What is being trained. Who begins takes the first free place and keeps it.
        held: What is held at a rung.
        told: What some worker has told of its memory (see `TAKEN`).
        stage_problem: Why a checkpoint could not be stored, where one could not.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.counts: Counter[str] = Counter()
        self.trained = self.shared = self.not_begun = 0
        self.best: TrialRecord | None = None
        self.front: list[TrialRecord] = []
        self.others: deque[tuple[float, int]] = deque(maxlen=MOST_OTHERS)
        self.slots: list[Begun | None] = []
        self.held: dict[int, Begun] = {}
        self.told: set[str] = set()
        self.stage_problem: str | None = None
        self._places: dict[int, int] = {}
        self._aside: dict[int, Begun] = {}  # given back, to go on later
        self._pace = Pace()

    @property
    def num_ended(self) -> int:
        """Trials that ended and count."""
        return sum(self.counts[state] for state in ("finished", "failed", "stopped"))

    @property
    def running(self) -> Iterator[Begun]:
        """What is being trained, in the order of its places."""
        return (begun for begun in self.slots if begun is not None)

    def known(self, trial: TrialRecord, now: float) -> None:
        """Take in a trial from before; one that is to go on counts once it does."""
        if trial.ended:
            self.trial_ended(trial)
        elif trial.state == "paused":
            self.held[trial.number] = self._begun(trial, now)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Take in a trial that ended, also one that was refused or repeats another."""
        number = trial.number
        begun = self._leave(number) or self._aside.pop(number, None) or self.held.pop(number, None)
        if begun is not None:  # the study knows better
            self.trained, self.shared = self.trained - begun.trained, self.shared - begun.shared
        self.stage_problem = trial.facts.get("stage_problem", self.stage_problem)
        self.counts["repeated" if trial.duplicate_of is not None else trial.state] += 1
        if trial.counts and trial.epochs:
            trained, shared = trial.epochs_trained, trial.epochs_shared
            self.trained, self.shared = self.trained + trained, self.shared + shared
            self.not_begun += trial.epochs_asked - trained - shared
        if trial.val_error is None or trial.duplicate_of is not None:
            return
        known = [] if self.best is None else [self.best]
        self.best = best([*known, trial])
        before = [*self.front, trial]
        self.front = front(before)
        for one in before:
            if one.val_error is not None and one.size_bytes and one not in self.front:
                self.others.append((one.val_error, one.size_bytes))

    def trial_started(self, trial: TrialRecord, now: float, since: float | None = None) -> Begun:
        """Take in a trial that a worker gets; return it with what is known of it from before.

        Args:
            trial: The trial.
            now: The time.
            since: When that was; None: now.
        """
        number = trial.number
        begun = self._at(number) or self.held.pop(number, None) or self._aside.pop(number, None)
        if begun is None:
            begun = self._begun(trial, now)
        begun.since, begun.last = now if since is None else since, now
        begun.seconds, begun.counted, begun.taken = 0.0, 0, {}
        if number not in self._places:
            if None not in self.slots:
                self.slots.append(None)
            self._places[number] = self.slots.index(None)
            self.slots[self._places[number]] = begun
        return begun

    def reported(self, report: Mapping[str, Any], now: float) -> None:
        """Take in a worker's report (`worker.Leg.advance`) of a trial that is being trained."""
        begun = self._at(report["number"])
        if begun is None:
            return
        begun.taken = {key: report[key] for key in TAKEN if key in report} or begun.taken
        self.told.update(begun.taken)
        trained = []
        for result in report["epochs"]:
            begun.metrics = result
            if result["epoch"] <= begun.epoch:  # it goes on from there, or lost it
                continue
            begun.epoch = int(result["epoch"])
            if result.get("restored"):
                begun.shared, self.shared = begun.shared + 1, self.shared + 1
            else:
                begun.trained, self.trained = begun.trained + 1, self.trained + 1
                trained.append(result["seconds"])
        begun.last = now
        if trained:
            begun.seconds, begun.counted = (
                begun.seconds + sum(trained),
                begun.counted + len(trained),
            )
            self._pace.trained(trained, now)

    def trial_held(self, number: int) -> Begun:
        """Take in a trial that is held at a rung; return it."""
        begun = self._leave(number)
        assert begun is not None
        self.held[number] = begun
        return begun

    def trial_left(self, number: int) -> None:
        """Take in that a trial is not being trained any more, and may go on later."""
        begun = self._leave(number)
        if begun is not None:
            self._aside[number] = begun

    def seconds_left(self, now: float) -> float | None:
        """Return how long it takes until the wanted trials have ended; None if nobody knows.

        Trials to come are taken to train as many epochs as those did that have ended or are held.
        """
        running = list(self.running)
        to_come = max(0, self.target - self.num_ended - len(running) - len(self.held))
        left = [
            (
                one.num_epochs - one.epoch,
                one.seconds / one.counted if one.counted else None,
                one.last,
            )
            for one in running
        ]
        epochs = sum(count for count, _, _ in left) + to_come * self._usual_epochs(running)
        return self._pace.seconds_left(epochs, left, now)

    def _usual_epochs(self, running: list[Begun]) -> float:
        over = self.num_ended + len(self.held)
        if over:
            unsettled = sum(one.trained for one in (*running, *self._aside.values()))
            return (self.trained - unsettled) / over
        return sum(one.num_epochs - one.shared for one in running) / max(1, len(running))

    def _begun(self, trial: TrialRecord, now: float) -> Begun:
        begun = Begun.of(trial, now)
        self.trained, self.shared = self.trained + begun.trained, self.shared + begun.shared
        return begun

    def _at(self, number: int) -> Begun | None:
        place = self._places.get(number)
        return None if place is None else self.slots[place]

    def _leave(self, number: int) -> Begun | None:
        begun = self._at(number)
        if begun is not None:
            self.slots[self._places.pop(number)] = None
            while self.slots and self.slots[-1] is None:
                self.slots.pop()
        return begun

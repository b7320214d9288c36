"""A search replayed from whole trainings: only its decisions are made anew."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sqtune.config.options import EarlyStopping
from sqtune.search.rungs import Rungs


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial that a search may run.

    Attributes:
        name: Of the configuration, whatever its seed.
        epochs: What each epoch reports.
        others: Final validation errors (0..1) of the configuration's other seeds.
        keys: What each epoch's stage is stored under; epochs of equal keys are trained once.
    """

    name: str
    epochs: tuple[dict[str, float], ...]
    others: tuple[float, ...]
    keys: tuple[str, ...]

    @property
    def final(self) -> float:
        """What the search itself sees at the end."""
        return self.epochs[-1]["val_error"]

    @property
    def confirmed(self) -> float:
        """What the configuration is worth, without the luck of the seed that the search saw."""
        return statistics.fmean(self.others)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search came to.

    Attributes:
        epochs: Trained, each once where stages are shared.
        duration: Until the last slot was done, in epochs.
        best: The trial with the smallest final error, an index of the candidates.
        num_finished: Trials that were trained to their end.
    """

    epochs: int
    duration: float
    best: int
    num_finished: int


def replay(candidates: Sequence[Candidate], early: EarlyStopping, num_slots: int) -> Outcome:
    """Run trials in the given order, so many at once, each epoch taking equally long.

    A free slot takes up, in this order: a trial that waited for a stage which another one trained,
    a paused trial that turned out to be among the better part, the next new trial.
    """
    return _Replay(candidates, early, num_slots).run()


class _Replay:
    def __init__(
        self, candidates: Sequence[Candidate], early: EarlyStopping, num_slots: int
    ) -> None:
        self.candidates, self.early, self.num_slots = candidates, early, num_slots
        self.num_epochs = len(candidates[0].epochs)
        self.rung_epochs = early.epochs(self.num_epochs)
        self.rungs = Rungs(early, several_objectives=False)
        self.stored: set[str] = set()
        self.claimed: set[str] = set()
        self.training: list[tuple[float, int, int]] = []  # (when it ends, trial, epoch)
        self.waiting: list[tuple[int, int]] = []  # (trial, next epoch)
        self.held: dict[int, int] = {}  # next epoch by paused trial
        self.finished: list[int] = []
        self.now = 0.0
        self.spent = self.num_started = 0

    def run(self) -> Outcome:
        self._fill()
        while self.training:
            self.now, trial, epoch = heapq.heappop(self.training)
            key = self.candidates[trial].keys[epoch - 1]
            self.claimed.discard(key)
            self.stored.add(key)
            self.spent += 1
            if self._goes_on(trial, epoch):
                self._proceed(trial, epoch + 1)
            self._fill()
        best = min(self.finished, key=lambda trial: (self.candidates[trial].final, trial))
        return Outcome(self.spent, self.now, best, len(self.finished))

    def _fill(self) -> None:
        """Give free slots something to do, if there is anything."""
        while len(self.training) < self.num_slots and self._start_one():
            pass

    def _start_one(self) -> bool:
        for place, (trial, epoch) in enumerate(self.waiting):
            if self.candidates[trial].keys[epoch - 1] not in self.claimed:
                del self.waiting[place]
                self._proceed(trial, epoch)
                return True
        if self.held and (promotable := self.rungs.promotable()):
            trial = promotable[0]
            self.rungs.release(trial)
            self._proceed(trial, self.held.pop(trial))
            return True
        if self.num_started < len(self.candidates):
            self.num_started += 1
            self._proceed(self.num_started - 1, 1)
            return True
        return False

    def _proceed(self, trial: int, epoch: int) -> None:
        """Pass over stored epochs, then train the next one or wait for it."""
        while epoch <= self.num_epochs:
            key = self.candidates[trial].keys[epoch - 1]
            if key in self.claimed:
                self.waiting.append((trial, epoch))
                return
            if key not in self.stored:
                self.claimed.add(key)
                heapq.heappush(self.training, (self.now + 1, trial, epoch))
                return
            if not self._goes_on(trial, epoch):
                return
            epoch += 1
        self.finished.append(trial)

    def _goes_on(self, trial: int, epoch: int) -> bool:
        if epoch not in self.rung_epochs:
            return True
        metrics = self.candidates[trial].epochs[epoch - 1]
        value, ratio = metrics.get(self.early.metric), metrics["ratio"]
        self.rungs.add(trial, epoch, value, ratio, None, self.num_epochs)
        if self.rungs.goes_on(trial, epoch):
            return True
        if self.early.name == "pause":
            self.rungs.hold(trial, epoch)
            self.held[trial] = epoch + 1
        return False

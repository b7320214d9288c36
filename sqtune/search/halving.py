"""Which trials are held at rungs while a search runs, and which of them go on."""

from __future__ import annotations

from collections.abc import Mapping

from sqtune.config.options import EarlyStopping
from sqtune.config.trial import TrialConfig
from sqtune.search.records import TrialRecord
from sqtune.search.rungs import Rungs
from sqtune.search.stored import digest


class Halving:
    """The rungs of a search: what trials were worth there, who is held, who has which ahead.

    Args:
        early: When and how trials are held.
        several_objectives: Whether sizes matter.
    """

    def __init__(self, early: EarlyStopping, *, several_objectives: bool) -> None:
        self._early = early
        self._rungs = Rungs(early, several_objectives=several_objectives)
        self._held: dict[int, TrialConfig] = {}
        self._stopped: dict[bytes, int] = {}  # by the configuration's digest
        self._ahead: dict[int, set[int]] = {}  # of trials that are being trained

    @property
    def pauses(self) -> bool:
        """Whether trials that are held may go on later."""
        return self._early.name == "pause"

    @property
    def num_held(self) -> int:
        """Trials that wait at a rung."""
        return len(self._held)

    def take_up(self, trial: TrialRecord) -> None:
        """Take in what a trial has come to under an earlier driver."""
        for epoch, record in enumerate(trial.epochs, 1):
            self.note(trial, epoch, record)
        if trial.state == "paused":
            self.hold(trial, len(trial.epochs))
        elif trial.state == "stopped":
            self.stop(trial)

    def note(self, trial: TrialRecord, epoch: int, record: Mapping[str, float]) -> None:
        """Enter an epoch into the rung tables, if it is at a rung."""
        num_epochs = trial.config.num_epochs
        if epoch in self._early.epochs(num_epochs):
            value, ratio = record.get(self._early.metric), record["ratio"]
            self._rungs.add(trial.number, epoch, value, ratio, trial.size_bytes, num_epochs)

    def begin(self, trial: TrialRecord, passed: int) -> tuple[int, ...]:
        """Return the rungs that a trial has yet to pass; those up to `passed` are behind it."""
        epochs = self._early.epochs(trial.config.num_epochs)
        self._ahead[trial.number] = {epoch for epoch in epochs if epoch > passed}
        return tuple(sorted(self._ahead[trial.number]))

    def end(self, number: int) -> None:
        """Forget what a trial had ahead."""
        self._ahead.pop(number, None)

    def stops_at(self, number: int, epochs: set[int]) -> int | None:
        """Return the rung among the epochs just trained at which a trial does not go on."""
        for epoch in sorted(epochs & self._ahead[number]):
            self._ahead[number].remove(epoch)
            if not self._rungs.goes_on(number, epoch):
                return epoch
        return None

    def hold(self, trial: TrialRecord, epoch: int) -> None:
        """Let a trial wait at a rung."""
        self._held[trial.number] = trial.config
        self._rungs.hold(trial.number, epoch)

    def stop(self, trial: TrialRecord) -> None:
        """Take in that a trial was ended at a rung."""
        self._stopped.setdefault(digest(trial.config.model_dump_json()), trial.number)

    def release(self, number: int) -> None:
        """Let a trial wait no longer."""
        del self._held[number]
        self._rungs.release(number)

    def promotable(self) -> list[int]:
        """Return the trials that are held and go on, the best of the highest rung first."""
        if self._early.name == "none":  # what was held when the search went by rungs
            return list(self._held)
        return self._rungs.promotable()

    def held_like(self, config: TrialConfig) -> int | None:
        """Return a trial of an equal configuration that was held at a rung; None if none was."""
        if self._early.name == "none":  # whatever was held may go on now
            return None
        alike = (number for number, held in self._held.items() if held == config)
        return next(alike, self._stopped.get(digest(config.model_dump_json())))

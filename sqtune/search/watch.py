"""A study that another process drives, as it goes on: what is new since the last look."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqtune.search.records import TrialRecord
from sqtune.search.tally import Tally
from sqtune.search.view import StudyView


class Watch:
    """Tells a tally what happens to a study's trials, from what they are at each look.

    Args:
        study: The study.

    Attributes:
        tally: What it tells.
    """

    def __init__(self, study: StudyView) -> None:
        self._study = study
        self.tally = Tally(study.space.search.num_trials)
        self._driven_at = 0.0  # since 1970
        self._ended: set[int] = set()
        self._epochs: dict[int, int] = {}  # of what is being trained

    def look(self, trials: Sequence[TrialRecord], now: float, unix_now: float) -> list[TrialRecord]:
        """Take in how trials are now; return those that have ended since the last look.

        Args:
            trials: All of the study.
            now: The time on the tally's clock.
            unix_now: The same since 1970.
        """
        attrs = self._study.attrs  # another command may have gone on, with more trials
        self.tally.target = json.loads(attrs["space"])["search"]["num_trials"]
        self._driven_at = attrs["driven_at"]
        ended = []
        for trial in trials:
            number = trial.number
            if number in self._ended:
                continue
            if trial.state == "running" or number in self._epochs:
                self._on(trial, now, now - unix_now)
            if trial.state == "running":
                continue
            trained = self._epochs.pop(number, None) is not None
            if trial.ended:
                self._ended.add(number)
                self.tally.trial_ended(trial)
                ended.append(trial)
            elif trial.state == "paused" and trained:
                self.tally.trial_held(number)
            elif trial.state == "paused" and number not in self.tally.held:
                self.tally.known(trial, now)
            elif trained:
                self.tally.trial_left(number)
        return ended

    def _on(self, trial: TrialRecord, now: float, since_1970: float) -> None:
        """Take in what is new of a trial that is, or was, being trained."""
        number, known = trial.number, self._epochs.get(trial.number)
        if known is None:
            since = now
            if trial.epochs and number not in self.tally.held:
                first = trial.epochs[0]  # of an earlier driver's, it may be
                began = first["time"] / 1000 - first.get("seconds", 0.0)
                since = max(began, self._driven_at) + since_1970
            known = self.tally.trial_started(trial, now, min(now, since)).epoch
        if len(trial.epochs) > known:
            new = trial.epochs[known:]
            epochs = [{**epoch, "epoch": known + i} for i, epoch in enumerate(new, 1)]
            self.tally.reported({"number": number, "epochs": epochs}, now)
        self._epochs[number] = len(trial.epochs)

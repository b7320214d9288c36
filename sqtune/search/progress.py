"""Progress: a live view on a terminal, one plain line per ended trial elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from sqtune.search.live_area import LiveArea
from sqtune.search.live_view import MOST_NOTES, Clock, Notes, draw
from sqtune.search.records import TrialRecord
from sqtune.search.sheet import Sheet
from sqtune.search.tables import trial_line
from sqtune.search.tally import Tally
from sqtune.search.wording import duration

REFRESH_SECONDS = 0.5
MOST_SAID = 20  # while a view is shown, to be printed once it has ended


def _nothing() -> None:
    return None


@dataclass(slots=True)
class Progress:
    """What is shown while a search runs.

    Attributes:
        console: Where it is shown, and what comes after it.
        quiet: Whether nothing is shown.
    """

    console: Console
    quiet: bool = False
    _tally: Tally = field(default_factory=lambda: Tally(0))
    _began: float = 0.0
    _deadline: float | None = None
    _trouble: Callable[[], str | None] = _nothing
    _shown: float = 0.0
    _area: LiveArea | None = None
    _said: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_SAID))
    _notes: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_NOTES))
    _num_said: int = 0

    def say(self, text: str) -> None:
        """Show a line; while a view is shown, as a note in it, and once it has ended."""
        if self.quiet:
            return
        if self._area is None:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
            return
        self._said.append(text)
        self._num_said += 1
        self._note(text)

    def begin(
        self,
        target: int,
        trials: list[TrialRecord],
        deadline: float | None = None,
        trouble: Callable[[], str | None] = _nothing,
    ) -> None:
        """Start to show a search.

        Args:
            target: Trials that it wants to end.
            trials: That it has already.
            deadline: When its time limit ends it (monotonic seconds).
            trouble: Returns what is wrong just now, if something is.
        """
        self._tally = Tally(target)
        self._began, self._deadline, self._trouble = time.monotonic(), deadline, trouble
        for trial in trials:
            self._tally.known(trial, self._began)
        if self.console.is_interactive and not self.quiet:
            self._area = LiveArea(self.console)
            self._draw()

    def trial_started(self, trial: TrialRecord) -> None:
        """Take in a trial that a worker gets."""
        self._tally.trial_started(trial, time.monotonic())

    def reported(self, report: Mapping[str, Any]) -> None:
        """Take in a worker's report (`worker.Leg.advance`)."""
        self._tally.reported(report, time.monotonic())

    def trial_paused(self, number: int) -> None:
        """Take in a trial that is held at a rung."""
        held = self._tally.trial_held(number)
        if self._area is None:
            self.say(f"trial {number:>3}  held after epoch {held.epoch} of {held.num_epochs}")

    def trial_left(self, number: int) -> None:
        """Take in that a trial is not being trained any more, and may go on later."""
        self._tally.trial_left(number)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Take in a trial that ended; what was refused or repeats another is only counted."""
        self._tally.trial_ended(trial)
        if self._area is not None:
            if trial.state == "failed":
                self.say(trial_line(trial))
        elif trial.counts:
            elapsed = duration(time.monotonic() - self._began)
            ended = f"{self._tally.num_ended}/{self._tally.target}"
            self.say(f"{trial_line(trial)}  [{ended}, {elapsed}]")

    def tick(self) -> None:
        """Refresh, if it is time."""
        now = time.monotonic()
        if self._area is not None and now - self._shown >= REFRESH_SECONDS:
            self._shown = now
            self._draw()

    def end(self) -> None:
        """Stop showing; print what was said meanwhile."""
        if self._area is None:
            return
        self._area.close()
        self._area = None
        earlier = self._num_said - len(self._said)
        if earlier:
            self.say(f"{earlier} earlier notes are left out")
        for text in self._said:
            self.say(text)
        self._said.clear()
        self._num_said = 0

    def _note(self, text: str) -> None:
        self._notes.append(f"{time.strftime('%H:%M')} {' '.join(text.split())}")

    def view(self, sheet: Sheet) -> list[Text]:
        """Return the lines of a view of what has happened so far."""
        trouble = self._trouble()
        if trouble is None and self._tally.stage_problem is not None:
            trouble = f"not every stage is stored: {self._tally.stage_problem}"
        clock = Clock(time.monotonic(), self._began, self._deadline)
        return draw(self._tally, sheet, clock, Notes(tuple(self._notes), trouble))

    def _draw(self) -> None:
        assert self._area is not None
        width, height = self._area.size
        self._area.draw(self.view(Sheet(width, height - 1, self.console.encoding)))

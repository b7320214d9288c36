"""Progress: a live table on a terminal, one plain line per ended trial elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sqtune.search.pareto import best
from sqtune.search.records import TrialRecord
from sqtune.search.tables import (
    bits_text,
    duration,
    percent,
    quantizer_text,
    schedule_text,
    trial_line,
)

REFRESH_SECONDS = 0.5


@dataclass(slots=True)
class Progress:
    """What is shown while a search runs.

    Attributes:
        console: Where it is shown.
    """

    console: Console
    _target: int = 0
    _running: dict[int, TrialRecord] = field(default_factory=dict)
    _epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _before: int = 0
    _best: TrialRecord | None = None
    _started: float = 0.0
    _shown: float = 0.0
    _live: Live | None = None

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, target: int, trials: list[TrialRecord]) -> None:
        """Start to show a search that wants `target` trials to end and has some already."""
        self._target = target
        for trial in trials:
            if trial.state not in ("running", "interrupted"):
                self._take(trial)
        self._before = self._num_ended
        self._started = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(
                self._view(), console=self.console, auto_refresh=False, transient=True
            )
            self._live.start()

    def trial_started(self, trial: TrialRecord) -> None:
        """Take in a trial that a worker gets."""
        self._running[trial.number] = trial

    def epoch_done(self, number: int, metrics: dict[str, float]) -> None:
        """Take in an epoch's results."""
        self._epochs[number] = metrics

    def trial_paused(self, number: int) -> None:
        """Take in a trial that is held at a rung."""
        trial, epoch = self._running.pop(number), int(self._epochs.pop(number)["epoch"])
        if self._live is None:
            self.say(f"trial {number:>3}  held after epoch {epoch} of {trial.config.num_epochs}")

    def trial_ended(self, trial: TrialRecord) -> None:
        """Take in a trial that ended; what was refused or repeats another is only counted."""
        self._running.pop(trial.number, None)
        self._epochs.pop(trial.number, None)
        self._take(trial)
        if self._live is None and trial.counts:
            elapsed = duration(time.monotonic() - self._started)
            self.say(f"{trial_line(trial)}  [{self._num_ended}/{self._target}, {elapsed}]")

    def _take(self, trial: TrialRecord) -> None:
        """Count a trial and keep it if it is the best; others are let go, however many."""
        self._counts[trial.state if trial.counts else f"not counted: {trial.state}"] += 1
        known = [] if self._best is None else [self._best]
        self._best = best([*known, trial])

    @property
    def _num_ended(self) -> int:
        return sum(self._counts[state] for state in ("finished", "failed", "stopped"))

    def tick(self) -> None:
        """Refresh, if it is time."""
        now = time.monotonic()
        if self._live is not None and now - self._shown >= REFRESH_SECONDS:
            self._shown = now
            self._live.update(self._view(), refresh=True)

    def end(self) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "epoch", "ratio", "val error %"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("quantizer", no_wrap=True, overflow="ellipsis")
        table.add_column("ratio schedule", no_wrap=True, overflow="ellipsis")
        for number, trial in sorted(self._running.items()):
            metrics = self._epochs.get(number, {})
            error = percent(metrics["val_error"]) if "val_error" in metrics else ""
            table.add_row(
                str(number),
                f"{int(metrics.get('epoch', 0))}/{trial.config.num_epochs}",
                f"{metrics['ratio']:.3f}" if metrics else "",
                error,
                f"{quantizer_text(trial.config)} {bits_text(trial)}",
                schedule_text(trial.config),
            )
        leader = trial_line(self._best) if self._best else "no trial has finished yet"
        return Group(
            Text(self._headline(), no_wrap=True, overflow="ellipsis"),
            Text(f"best   {leader}", no_wrap=True, overflow="ellipsis"),
            table,
        )

    def _headline(self) -> str:
        elapsed = time.monotonic() - self._started
        ended = self._num_ended
        done, left = ended - self._before, max(0, self._target - ended)
        remaining = f"about {duration(elapsed / done * left)} left" if done else "time left unknown"
        others = "".join(
            f", {self._counts[state]} {word}"
            for state, word in (("failed", "failed"), ("stopped", "stopped early"))
            if self._counts[state]
        )
        return (
            f"{ended} of {self._target} trials ended{others}  "
            f"{duration(elapsed)} so far, {remaining}"
        )

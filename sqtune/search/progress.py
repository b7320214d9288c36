"""Progress: a live table on a terminal, one plain line per ended trial elsewhere."""

from __future__ import annotations

import time
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
    _ended: list[TrialRecord] = field(default_factory=list)
    _ended_before: int = 0
    _started: float = 0.0
    _shown: float = 0.0
    _live: Live | None = None

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, target: int, ended: list[TrialRecord]) -> None:
        """Start to show a search that wants `target` ended trials and has some."""
        self._target, self._ended, self._ended_before = target, list(ended), len(ended)
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

    def trial_ended(self, trial: TrialRecord) -> None:
        """Take in a trial that finished or failed."""
        self._running.pop(trial.number, None)
        self._ended.append(trial)
        if self._live is None:
            elapsed = duration(time.monotonic() - self._started)
            self.say(f"{trial_line(trial)}  [{len(self._ended)}/{self._target}, {elapsed}]")

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
            error = percent(metrics["val_error"]) if metrics else ""
            table.add_row(
                str(number),
                f"{int(metrics.get('epoch', 0))}/{trial.config.num_epochs}",
                f"{metrics['ratio']:.3f}" if metrics else "",
                error,
                f"{quantizer_text(trial.config)} {bits_text(trial)}",
                schedule_text(trial.config),
            )
        top = best(self._ended)
        leader = trial_line(top) if top else "no trial has finished yet"
        return Group(
            Text(self._headline(), no_wrap=True, overflow="ellipsis"),
            Text(f"best   {leader}", no_wrap=True, overflow="ellipsis"),
            table,
        )

    def _headline(self) -> str:
        elapsed = time.monotonic() - self._started
        done = len(self._ended) - self._ended_before
        left = max(0, self._target - len(self._ended))
        remaining = f"about {duration(elapsed / done * left)} left" if done else "time left unknown"
        failed = sum(trial.state == "failed" for trial in self._ended)
        failures = f", {failed} failed" if failed else ""
        return (
            f"{len(self._ended)} of {self._target} trials ended{failures}  "
            f"{duration(elapsed)} so far, {remaining}"
        )

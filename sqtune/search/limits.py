"""When a search ends before its trials have: time, a good enough network, GPU hours, failures."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from sqtune.config.options import SearchOptions
from sqtune.quant import Float
from sqtune.search.records import TrialRecord, reason_of

Ending = Literal[
    "complete",
    "interrupted",
    "stopped",
    "time limit",
    "target error",
    "GPU hours",
    "failures",
    "unwritable",
    "unsuited node",
    "taken over",
    "exhausted",
]
GOOD_ENDINGS: tuple[Ending, ...] = ("complete", "target error", "exhausted")


class Limits:
    """Looks at what has been reported and says why the search ends now, if it does.

    Args:
        options: The limits.
        gpus: What one trial holds, as far as it is known.
        seconds_before: Training time of the study so far, summed over its trials.
        stop_requested: Whether `sqtune stop` was typed.
        taken_over: Whether another driver has taken the study over.

    Attributes:
        gpus: What one trial holds.
        deadline: When the time limit ends the search (monotonic seconds).
        interrupted: Whether a signal ends the search.
        hindrance: What kept a worker from training on, and why; None where nothing did.
    """

    def __init__(
        self,
        options: SearchOptions,
        gpus: float,
        seconds_before: float,
        stop_requested: Callable[[], bool],
        taken_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._options, self.gpus = options, gpus
        self._seconds = seconds_before
        self._stop_requested, self._taken_over = stop_requested, taken_over
        limit = options.time_limit_seconds
        self.deadline = None if limit is None else time.monotonic() + limit
        self._causes: Counter[str] = Counter()
        self._reached = False
        self.hindrance: tuple[Ending, str] | None = None
        self.interrupted = False

    def trained(self, seconds: float) -> None:
        """Take in that a trial has trained for some time."""
        self._seconds += seconds

    def ended(self, trial: TrialRecord) -> None:
        """Take in a trial that ended."""
        if trial.failure is not None:
            self._causes[cause(trial.failure)] += 1
        self.known(trial)

    def known(self, trial: TrialRecord) -> None:
        """Take in a trial of an earlier driver: its failure counts no more, its error does."""
        target = self._options.target_error
        if target is not None and trial.val_error is not None and trial.val_error <= target:
            self._reached = self._reached or trial.weight_bits != Float.bits

    def now(self) -> Ending | None:
        """Return why running trials are to be left where they are; None where they go on."""
        if self._taken_over():
            return "taken over"
        if self.interrupted:
            return "interrupted"
        if self._reached:
            return "target error"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "time limit"
        hours = self._options.max_gpu_hours
        if hours is not None and self._seconds * self.gpus >= hours * 3600:
            return "GPU hours"
        return None

    def soon(self) -> Ending | None:
        """Return why no trial is begun and running ones end after their epoch; None likewise."""
        if self._stop_requested():
            return "stopped"
        if any(count >= self._options.max_failures for count in self._causes.values()):
            return "failures"
        return None if self.hindrance is None else self.hindrance[0]


def cause(failure: str) -> str:
    r"""Return what is common to failures of one cause: the reason without its numbers.

    >>> cause("Traceback\nthe loss became nan in epoch 3 of 12.")
    'the loss became nan in epoch # of #.'
    """
    return re.sub(r"\d+(\.\d+)?([eE][-+]?\d+)?", "#", reason_of(failure))

"""How long a search will take yet: by the epochs that are left and how fast epochs are trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

REPORTS = 100  # that the pace is taken from: slots come and go, networks are large and small
FEWEST_EPOCHS = 3  # trained, before anything is said


@dataclass(slots=True)
class Pace:
    """Epochs trained by the clock. Times are seconds of one clock, whichever it is."""

    _reports: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=REPORTS))
    _epochs: int = 0
    _seconds: float = 0.0

    def trained(self, seconds: list[float], now: float) -> None:
        """Take in a report of epochs that took so long, each, on one slot."""
        if not self._reports:  # what passed before, workers took to start
            self._reports.append((now - sum(seconds), 0))
        self._reports.append((now, len(seconds)))
        self._epochs += len(seconds)
        self._seconds += sum(seconds)

    def seconds_left(
        self, epochs: float, running: Iterable[tuple[int, float | None, float]], now: float
    ) -> float | None:
        """Return how long it takes until so many epochs more are trained; None if nobody knows.

        Args:
            epochs: That are left in all.
            running: Of each trial that is being trained, the epochs that it has left, how long
                one of them takes (None: not known yet) and when the last one ended. No trial is
                trained faster than on its slot.
            now: The time.
        """
        running = list(running)
        if self._epochs < max(FEWEST_EPOCHS, len(running)):
            return None
        (first, _), *reports = self._reports
        last = reports[-1][0]
        if last <= first:
            return None
        per_epoch = (last - first) / sum(count for _, count in reports)
        usual = self._seconds / self._epochs
        ends = [last + epochs * per_epoch]
        ends += [since + left * (usual if own is None else own) for left, own, since in running]
        return max(0.0, max(ends) - now)


def rounded(seconds: float) -> float:
    """Return a time that is left no finer than it is known, so that it does not flicker.

    >>> rounded(8), rounded(128), rounded(1000), rounded(7300)
    (10, 130, 1020, 7200)
    """
    step = next((step for below, step in ((60, 5), (600, 10), (3600, 60)) if seconds < below), 300)
    return step * max(1, round(seconds / step))

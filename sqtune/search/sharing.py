"""Which trials begin alike, and which of them has to wait until another has trained what it needs.

Waiting happens here, before a trial gets a slot. What other studies train is in the claims of the
stage store, which workers look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Course:
    """A trial's training as the stage store sees it.

    Attributes:
        keys: One a epoch, of everything that acted until its end.
        stops: Epochs whose checkpoint stays stored.
        progress: Epochs trained so far.
    """

    keys: tuple[str, ...]
    stops: tuple[int, ...]
    progress: int = 0


def shared_epochs(one: Course, other: Course) -> int:
    """Return with how many epochs two trials begin alike.

    >>> shared_epochs(Course(("a", "b", "c"), ()), Course(("a", "b", "d"), ()))
    2
    """
    for epoch, (mine, theirs) in enumerate(zip(one.keys, other.keys, strict=False)):
        if mine != theirs:
            return epoch
    return min(len(one.keys), len(other.keys))


class Sharing:
    """The courses of the trials that are being trained.

    Args:
        longest: Returns how many of a course's first epochs are stored, given its keys.
    """

    def __init__(self, longest: Callable[[tuple[str, ...]], int]) -> None:
        self._longest = longest
        self._running: dict[int, Course] = {}

    def begin(self, number: int, course: Course) -> None:
        """Take in that a trial is being trained."""
        course.progress = 0
        self._running[number] = course

    def progress(self, number: int, epoch: int) -> None:
        """Take in how far a trial has come."""
        self._running[number].progress = epoch

    def end(self, number: int) -> None:
        """Take in that a trial is not being trained any more."""
        self._running.pop(number, None)

    def waits_for(self, course: Course) -> int | None:
        """Return the trial that is training what another needs next; None if nobody does."""
        coming = [
            (stop, number)
            for number, running in self._running.items()
            for stop in _coming(running, course)
        ]
        if not coming:
            return None
        furthest, number = max(coming)
        return number if furthest > self._longest(course.keys) else None

    def blocks(self, number: int, course: Course) -> bool:
        """Tell whether a trial is still to store something that another needs; asks nobody else."""
        running = self._running.get(number)
        return running is not None and bool(_coming(running, course))


def _coming(running: Course, course: Course) -> list[int]:
    """Return the epochs that a training is to store and another can begin from."""
    alike = shared_epochs(course, running)
    return [stop for stop in running.stops if running.progress < stop <= alike]

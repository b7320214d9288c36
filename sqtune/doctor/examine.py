"""Checks side by side, each with a time limit, and what they found, in order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from sqtune.errors import SqtuneError

REPORT = "Give the command again; if it stays so, report it with this line."
State = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        subject: Of what, in a word or two.
        state: `ok`; `note` where a search runs, but something is worse than it could be or is
            missing for another command; `problem` where a search would not run.
        text: What was found.
        remedy: What to do; None where nothing has to be done.
    """

    subject: str
    state: State
    text: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing.

    Attributes:
        subject: At what, in a word or two.
        look: Looks; what a person can mend may be raised as a SqtuneError.
        seconds: After so long it is given up.
        otherwise: What that, or whatever it raises, means for a search.
    """

    subject: str
    look: Callable[[], list[Finding]]
    seconds: float = 20.0
    otherwise: State = "problem"


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Do all checks at the same time; yield what they find, in their order."""
    begun = time.monotonic()
    running = [(check, _begun(check)) for check in checks]
    for check, found in running:
        left = begun + check.seconds - time.monotonic()
        try:
            yield from found.result(max(left, 0.0))
        except TimeoutError:
            slow = f"no answer within {check.seconds:g} s"
            again = "Give the command again; if it stays so, see what hangs."
            yield Finding(check.subject, check.otherwise, slow, again)
        except SqtuneError as error:
            yield Finding(check.subject, check.otherwise, str(error))
        except Exception as error:  # no check ends the others
            failed = f"this could not be found out: {type(error).__name__}: {error}"
            yield Finding(check.subject, check.otherwise, failed, REPORT)


def slow(subject: str, what: str, seconds: float) -> Finding:
    """Return what it means that another process has not ended in time: nothing is broken yet."""
    load, cpus = os.getloadavg()[0], len(os.sched_getaffinity(0))
    text = f"{what} takes longer than {seconds:g} s: a slow disk, or load {load:.0f} on {cpus} CPUs"
    return Finding(subject, "note", text, "Give the command again once the machine is less busy.")


def _begun(check: Check) -> Future[list[Finding]]:
    """Begin a check in a thread that nobody has to wait for."""
    future: Future[list[Finding]] = Future()

    def look() -> None:
        try:
            future.set_result(check.look())
        except BaseException as error:  # it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=look, name=f"sqtune-doctor-{check.subject}", daemon=True).start()
    return future

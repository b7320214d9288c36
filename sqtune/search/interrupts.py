"""Ctrl-C and SIGTERM end a search in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sqtune.search.limits import Limits


@contextmanager
def stopped_by_ray(limits: Limits) -> Iterator[None]:
    """Let SIGTERM end the search in good order while Ray, which then exits, starts or ends."""
    try:
        yield
    except SystemExit:
        limits.interrupted = True


@contextmanager
def stopped_by_signals(limits: Limits) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the search in good order; a second one ends it at once.

    In a thread beside the main one, which alone is told of signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if limits.interrupted:
            raise KeyboardInterrupt
        limits.interrupted = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

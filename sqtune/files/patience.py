"""Asking again: a server that is away for a while is no reason to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
LASTING = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError)


def patiently(act: Callable[[], R], seconds: float) -> R:
    """Do something, again and again with growing pauses where it fails.

    Args:
        act: What to do.
        seconds: After so long the failure is raised.

    Raises:
        OSError: It still fails, or asking again cannot help.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return act()
        except LASTING:
            raise
        except OSError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause * random.uniform(0.8, 1.2))  # many that wait do not all come at once
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

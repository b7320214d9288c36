"""Keeps the stage store within its size while a search runs, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from sqtune.errors import StoreError

PRUNE_SECONDS = 30.0


@contextmanager
def pruned(
    prune: Callable[[Collection[str]], object], wanted: Callable[[], set[str]]
) -> Iterator[None]:
    """Prune the stage store now and then during the block, and at its end.

    Args:
        prune: Removes what was used longest ago until the rest fits; never what it is given.
        wanted: Returns keys that stay whatever happens.
    """
    over = threading.Event()

    def work() -> None:
        last = False
        while not last:
            last = over.wait(PRUNE_SECONDS)
            try:
                prune(wanted())
            except (StoreError, OSError):
                continue  # a store that cannot be cleaned now will be at the next time

    thread = threading.Thread(target=work, name="sqtune-housekeeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

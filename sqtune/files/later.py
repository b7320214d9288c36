"""Files whose writing is done by a thread, so that nobody waits for a server."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqtune.files.base import Files, Listed
from sqtune.files.patience import patiently

PATIENCE_SECONDS = 300.0  # with one file, while the server is away
MOST_BYTES = 256 * 2**20  # that wait in memory
TOUCHED = " touched"  # stands behind the name of a file that is to be touched, not written
SETTLE_SECONDS = 30.0  # for a file to be removed before it is created


class _Act(NamedTuple):
    """What is to be done with a file.

    Attributes:
        do: Does it.
        content: What the file then holds; None where it is then gone.
        at: When it was asked for (seconds since 1970).
        touch: Whether it only notes a use, of a file that stays as it is.
    """

    do: Callable[[], None]
    content: bytes | None
    at: float
    touch: bool = False


class LaterFiles:
    """Files in another place: `write`, `remove` and `touch` return at once, a thread does the work.

    It is done in the order in which it was asked for, again and again while the server is away.
    This process sees it as done already. Of what is asked for the same file only the last remains;
    where too much waits, or the server stays away, files are lost and `trouble` says why.

    Args:
        files: The place itself.
        most_bytes: That may wait; what has waited longest is lost first.
        patience_seconds: With one file.
    """

    def __init__(
        self,
        files: Files,
        *,
        most_bytes: int = MOST_BYTES,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._files, self._most, self._patience = files, most_bytes, patience_seconds
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, _Act] = OrderedDict()
        self._doing: tuple[str, _Act] | None = None
        self._thread: threading.Thread | None = None
        self.trouble: str | None = None  # why something was lost, the first time

    def finish(self, seconds: float) -> bool:
        """Wait until all is done; tell whether it is.

        Args:
            seconds: No longer than this.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._doing, seconds)

    def existing(self, names: Iterable[str]) -> set[str]:
        """Return which of these there are."""
        names = list(names)
        known = {name: act.content is not None for name in names if (act := self._pending(name))}
        asked = [name for name in names if name not in known]
        there = self._files.existing(asked) if asked else set()
        return there | {name for name, exists in known.items() if exists}

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        act = self._pending(name)
        return self._files.read(name) if act is None else act.content

    def write(self, name: str, content: bytes) -> None:
        """Write a file, as a whole or not at all."""
        self._put(name, _Act(lambda: self._files.write(name, content), content, time.time()))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; tell whether it was written. This waits."""
        with self._changed:
            settled = self._changed.wait_for(lambda: self._act(name) is None, SETTLE_SECONDS)
        if not settled:
            raise TimeoutError(f"{name} could not be removed within {SETTLE_SECONDS:g} s")
        return self._files.create(name, content)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        self._put(name, _Act(lambda: self._files.remove(name), None, time.time()))

    def touch(self, name: str) -> None:
        """Note that a file was used now, if there is one."""
        if self._pending(name) is None:
            self._put(
                _touch(name), _Act(lambda: self._files.touch(name), None, time.time(), touch=True)
            )

    def modified_at(self, name: str) -> float | None:
        """Return when a file was last written or touched; None where there is no such file."""
        act = self._pending(name)
        if act is not None:
            return None if act.content is None else act.at
        touched, written_at = self._pending(_touch(name)), self._files.modified_at(name)
        return written_at if touched is None or written_at is None else touched.at

    def listed(self) -> list[Listed]:
        """Return all files."""
        with self._changed:
            doing = [] if self._doing is None else [self._doing]
            pending = [*doing, *self._waiting.items()]
        found = {each.name: each for each in self._files.listed()}
        for name, act in pending:
            if act.content is not None:
                found[name] = Listed(name, len(act.content), act.at)
            elif not act.touch:
                found.pop(name, None)
            elif (touched := name.removesuffix(TOUCHED)) in found:
                found[touched] = found[touched]._replace(used_at=act.at)
        return list(found.values())

    def _act(self, name: str) -> _Act | None:
        """Return what is still to be done with a file."""
        if name in self._waiting:
            return self._waiting[name]
        return self._doing[1] if self._doing is not None and self._doing[0] == name else None

    def _pending(self, name: str) -> _Act | None:
        with self._changed:
            return self._act(name)

    def _put(self, name: str, act: _Act) -> None:
        with self._changed:
            self._waiting.pop(name, None)
            if not act.touch:
                self._waiting.pop(_touch(name), None)
            self._waiting[name] = act
            self._lose_the_oldest()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="sqtune-files", daemon=True)
                self._thread.start()

    def _lose_the_oldest(self) -> None:
        sizes = {name: len(act.content or b"") for name, act in self._waiting.items()}
        total = sum(sizes.values())
        for name, size in list(sizes.items())[:-1]:
            if total <= self._most:
                return
            if size:
                del self._waiting[name]
                total -= size
                self.trouble = self.trouble or (
                    f"more than {self._most:,} bytes waited to be written; the oldest were left out"
                )

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    return
                self._doing = self._waiting.popitem(last=False)
            name, act = self._doing
            begun = time.monotonic()
            try:
                patiently(act.do, self._patience)
            except OSError as error:
                waited = time.monotonic() - begun
                self.trouble = self.trouble or f"{name} after {waited:.0f} s: {error}"
            with self._changed:
                self._doing = None
                self._changed.notify_all()


def _touch(name: str) -> str:
    return f"{name}{TOUCHED}"

"""Files in a local folder."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from sqtune.files.base import Listed

PARTIAL_SECONDS = 3600  # a half-written file of a process that died is removed after so long
PARTIAL = ".part"
_HALF_WRITTEN = re.compile(r"(.*\.)?[0-9a-f]{32}\.part")  # ours


class LocalFiles:
    """Files in a local folder, which is made when something is written.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def existing(self, names: Iterable[str]) -> set[str]:
        """Return which of these there are."""
        return {name for name in names if (self._folder / name).exists()}

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, as a whole or not at all."""
        partial = self._partial(content)
        try:
            partial.replace(self._folder / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; tell whether it was written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        try:
            file = path.open("xb")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return True

    def _partial(self, content: bytes) -> Path:
        partial = self._folder / f"{uuid.uuid4().hex}{PARTIAL}"
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        return partial

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        (self._folder / name).unlink(missing_ok=True)

    def touch(self, name: str) -> None:
        """Note that a file was used now, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._folder / name)

    def modified_at(self, name: str) -> float | None:
        """Return when a file was last written or touched; None where there is no such file."""
        try:
            return (self._folder / name).stat().st_mtime
        except FileNotFoundError:
            return None

    def listed(self) -> list[Listed]:
        """Return all files; what a process that died left half-written goes after an hour."""
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # it may go at any moment
                        facts = entry.stat()
                        if _HALF_WRITTEN.fullmatch(entry.name) is None:
                            found.append(Listed(entry.name, facts.st_size, facts.st_mtime))
                        elif time.time() - facts.st_mtime > PARTIAL_SECONDS:
                            self.remove(entry.name)
        except FileNotFoundError:
            return []
        return found

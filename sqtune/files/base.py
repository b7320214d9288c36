"""What a place for files offers, whether a folder or a URL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Listed(NamedTuple):
    """A file: its name, its bytes, and when it was last written or touched (seconds since 1970)."""

    name: str
    size_bytes: int
    used_at: float


class Files(Protocol):
    """Files in one place, by name. Anything that goes wrong is an OSError."""

    def existing(self, names: Iterable[str]) -> set[str]:
        """Return which of these there are."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, as a whole or not at all."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; tell whether it was written."""

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""

    def touch(self, name: str) -> None:
        """Note that a file was used now, if there is one."""

    def modified_at(self, name: str) -> float | None:
        """Return when a file was last written or touched; None where there is no such file."""

    def listed(self) -> list[Listed]:
        """Return all files."""

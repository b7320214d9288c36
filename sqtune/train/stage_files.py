"""Where files of a stage store lie: a local folder, or any URL that fsspec knows.

A file is written as a whole or not at all; `create` makes one only where there is none. The only
module that imports fsspec, and only for a URL.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PARTIAL_SECONDS = 3600  # a half-written file of a process that died is removed after so long
PARTIAL, USED = ".part", ".used"


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
                        if not entry.name.endswith(PARTIAL):
                            found.append(Listed(entry.name, facts.st_size, facts.st_mtime))
                        elif time.time() - facts.st_mtime > PARTIAL_SECONDS:
                            self.remove(entry.name)
        except FileNotFoundError:
            return []
        return found


def _os_errors(act: Callable[P, R]) -> Callable[P, R]:
    """Make an OSError of whatever a backend raises: each has errors of its own."""

    @functools.wraps(act)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return act(*args, **kwargs)
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    return wrapped


class RemoteFiles:
    """Files under a URL. An object store writes an object as a whole or not at all.

    `create` is atomic where the store has conditional writes (S3, Google's, Azure's); elsewhere two
    may believe that they created a file, which costs work done twice, no more. When a file was used
    is kept as an empty one beside it.

    Args:
        url: As fsspec knows it: s3://bucket/folder, memory://folder, ...

    Raises:
        ValueError or ImportError: fsspec does not know it, or needs another package for it.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        found: tuple[Any, str] = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._fs, self._root = found[0], found[1].rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _names(self) -> dict[str, dict[str, Any]]:
        try:
            found = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return {}
        return {info["name"].rsplit("/", 1)[-1]: info for info in found if info["type"] == "file"}

    @_os_errors
    def existing(self, names: Iterable[str]) -> set[str]:
        """Return which of these there are, from one question to the store."""
        names = list(names)
        if len(names) == 1:
            return {name for name in names if self._fs.exists(self._path(name))}
        return set(names) & self._names().keys()

    @_os_errors
    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        try:
            content: bytes = self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    @_os_errors
    def write(self, name: str, content: bytes) -> None:
        """Write a file, as a whole or not at all."""
        self._fs.pipe_file(self._path(name), content)

    @_os_errors
    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; tell whether it was written."""
        try:
            self._fs.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    @_os_errors
    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        for each in (name, f"{name}{USED}"):
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(each))

    @_os_errors
    def touch(self, name: str) -> None:
        """Note that a file was used now, if there is one."""
        self._fs.pipe_file(self._path(f"{name}{USED}"), b"")

    @_os_errors
    def modified_at(self, name: str) -> float | None:
        """Return when a file was last written or touched; None where there is no such file."""
        times = []
        for each in (name, f"{name}{USED}"):
            with contextlib.suppress(FileNotFoundError):
                times.append(self._fs.modified(self._path(each)).timestamp())
        return max(times, default=None)

    @_os_errors
    def listed(self) -> list[Listed]:
        """Return all files."""
        return [
            Listed(name, info["size"], self.modified_at(name) or 0.0)
            for name, info in self._names().items()
            if not name.endswith(USED)
        ]


def files_at(place: Path | str) -> Files:
    """Return the files in a local folder or under a URL."""
    if "://" not in str(place):
        return LocalFiles(Path(place).expanduser())
    if str(place).startswith("file://"):
        return LocalFiles(Path(str(place).removeprefix("file://")))
    return RemoteFiles(str(place))

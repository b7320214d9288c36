"""Files under a URL; the only module that imports fsspec."""

from __future__ import annotations

import contextlib
import functools
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqtune.files.base import Listed
from sqtune.files.local import PARTIAL

P = ParamSpec("P")
R = TypeVar("R")

USED = ".used"
TIMES = ("LastModified", "last_modified", "mtime")  # when, as S3, Azure and Google list it
MEMORY_TURN = threading.RLock()  # fsspec's memory is the whole process's and minds no threads
OPTIONS: dict[str, dict[str, Any]] = {  # of fsspec's file systems, by scheme
    # A server that vanished without a word is noticed; asking again for long is our own business.
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 20,
            "retries": {"total_max_attempts": 2},
        }
    },
    "local": {"auto_mkdir": True},
}


def _os_errors(
    act: Callable[Concatenate[RemoteFiles, P], R],
) -> Callable[Concatenate[RemoteFiles, P], R]:
    """Make an OSError of whatever a backend raises: each has errors of its own."""

    @functools.wraps(act)
    def wrapped(self: RemoteFiles, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with self._turn:
                return act(self, *args, **kwargs)
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

        scheme = url.partition("://")[0]
        options = OPTIONS.get("s3" if scheme == "s3a" else scheme, {})
        found: tuple[Any, str] = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        self._fs, self._root = found[0], found[1].rstrip("/")
        self._turn = MEMORY_TURN if scheme == "memory" else contextlib.nullcontext()
        if getattr(self._fs, "retries", 1) > 1:  # s3fs's own, on top of the above
            self._fs.retries = 1

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
        """Return all files, from one question to the store where that tells times as well."""
        found = self._names()
        return [
            Listed(name, info["size"], self._used_at(name, found))
            for name, info in found.items()
            if not name.endswith(USED)
        ]

    def _used_at(self, name: str, found: Mapping[str, dict[str, Any]]) -> float:
        infos = (found[each] for each in (name, f"{name}{USED}") if each in found)
        times = [_listed_time(info) for info in infos]
        if None in times:
            return self.modified_at(name) or 0.0
        return max(time for time in times if time is not None)

    @_os_errors
    def upload(self, path: Path, name: str) -> None:
        """Copy a local file here."""
        self._fs.put_file(str(path), self._path(name))

    @_os_errors
    def download(self, name: str, path: Path) -> bool:
        """Copy a file to a local path, as a whole or not at all; tell whether there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            self._fs.get_file(self._path(name), str(partial))
            partial.replace(path)
        except FileNotFoundError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    @_os_errors
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all files in a folder and its folders, by name."""
        found = self._fs.find(self._path(folder), detail=True)
        first = len(self._fs._strip_protocol(self._root)) + 1
        return {
            path[first:]: info["size"] if "size" in info else self._fs.size(path)
            for path, info in found.items()
        }


def _listed_time(info: Mapping[str, Any]) -> float | None:
    times = (info.get(key) for key in TIMES)
    return next((time.timestamp() for time in times if isinstance(time, datetime)), None)

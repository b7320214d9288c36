"""Where studies are stored: the store's journal, or any database that Optuna knows."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import time
from collections.abc import Callable, Generator
from io import FileIO
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation

from sqtune.errors import StoreError
from sqtune.search.database import PatientStorage, ask_database, open_database
from sqtune.search.wording import plural
from sqtune.settings import without_password
from sqtune.store import Store

SYNC_SECONDS = 1.0
FIRST_FIELD = b'{"op_code":'  # how each line of a journal begins
_ENDS = JournalOperation.SET_TRIAL_STATE_VALUES


class _KernelLock(BaseJournalFileLock):
    """Locks the journal for one append; a killed process leaves nothing locked.

    A lock of the filelock package takes longer than the append itself.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()


class _Journal(JournalFileBackend):
    """Optuna's journal file, without opening it or waiting for the disk more than need be.

    What a killed process wrote is with the kernel already; a line that it, or a full disk, left
    half written is cut off before the next one. For the sake of power cuts the lines that end
    trials wait for the disk, some 0.1 to 8 ms, at most once a second.
    """

    def __init__(self, path: Path, lock: _KernelLock) -> None:
        super().__init__(str(path), lock)
        self._path, self._kernel_lock = path, lock
        self._synced_at = 0.0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any]]:
        if self._log_number_offset.get(log_number_from) == self._path.stat().st_size:
            return  # nothing is new, as is mostly the case
        yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._kernel_lock.acquire()
        try:
            with self._path.open("ab+", buffering=0) as file:
                _cut_half_line(file)
                _write_whole(file, text.encode())
                ends = any(log["op_code"] == _ENDS for log in logs)
                if ends and time.monotonic() - self._synced_at >= SYNC_SECONDS:
                    os.fsync(file.fileno())
                    self._synced_at = time.monotonic()
        finally:
            self._kernel_lock.release()


def open_storage(store: Store, url: str | None, *, mend: bool = False) -> BaseStorage:
    """Open a study storage: the store's journal, or any Optuna database by URL.

    Args:
        store: The store.
        url: A SQLAlchemy URL; None for the journal.
        mend: Whether to cut off a line of the journal that a killed writer left half written.

    Raises:
        StoreError: There is none, or it does not answer.
    """
    if url is not None:
        return open_named(url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        # not ".lock", which is a symbolic link of Optuna's own writers, such as its dashboard
        lock = _KernelLock(store.journal.with_suffix(".journal.flock"))
        refuse_damaged(store.journal, _looks_whole)  # Optuna takes some for none
        if mend and store.journal.exists():
            _mend(store.journal, lock)
        return JournalStorage(_Journal(store.journal, lock))
    except StoreError:
        raise
    except Exception as error:  # whatever damaged lines make Optuna raise
        if not isinstance(error, OSError):
            refuse_damaged(store.journal, _is_json)
        raise StoreError(
            f"{store.journal} cannot be opened as a study storage: {error}. Give --store another "
            "folder."
        ) from error


def open_named(url: str) -> PatientStorage:
    """Open the database that --study-storage names.

    Raises:
        StoreError: There is none, or it does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return open_database(url)
    except Exception as error:  # SQLAlchemy and drivers raise all kinds
        raise _unusable(url, error) from error


def ask(url: str) -> str:
    """Return how many studies a database has, in words; it stays as it is.

    Raises:
        StoreError: There is none, or it does not answer.
    """
    try:
        return ask_database(url)
    except Exception as error:
        raise _unusable(url, error) from error


def _unusable(url: str, error: Exception) -> StoreError:
    reason = " ".join(str(error).split("\n(Background on this error")[0].split()).rstrip("?.")
    if isinstance(error, ImportError) and "psycopg" in reason:
        reason += " (for PostgreSQL: pip install 'sqtune[postgres]')"
    return StoreError(
        f"--study-storage {without_password(url)} cannot be opened as a study storage: "
        f"{reason}. Give the URL of a database that answers, or leave --study-storage out."
    )


def refuse_damaged(journal: Path, is_good: Callable[[bytes], bool]) -> None:
    """Refuse a journal that has a damaged line; the last one may be half written.

    Args:
        journal: The file; it may be missing.
        is_good: Tells whether a line, without its end, is one of Optuna's.

    Raises:
        StoreError: It has one; the message says which, and what to do.
    """
    if not journal.exists():
        return
    with journal.open("rb") as file:
        for number, line in enumerate(file, 1):
            if is_good(line.rstrip(b"\n")) or _is_begun(line, number):
                continue
            name, end = shlex.quote(str(journal)), file.tell() - len(line)
            before = plural(number - 1, "line")
            raise StoreError(
                f"{journal}: line {number:,} is damaged, so studies cannot be read. Put a copy of "
                f"the file in its place, or keep what is before that line, {before}: "
                f"cp {name} {name}.damaged && truncate -s {end} {name}"
            )


def _looks_whole(line: bytes) -> bool:
    return line.startswith(FIRST_FIELD) and line.endswith(b"}") and b"\0" not in line


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _is_begun(line: bytes, number: int) -> bool:
    """Tell whether a line is the last one, and somebody is writing it or died meanwhile."""
    ours = number > 1 or FIRST_FIELD.startswith(line[: len(FIRST_FIELD)])
    return ours and not line.endswith(b"\n")


def _mend(journal: Path, lock: _KernelLock) -> None:
    lock.acquire()
    try:
        with journal.open("ab+", buffering=0) as file:
            _cut_half_line(file)
    finally:
        lock.release()


def _cut_half_line(file: FileIO) -> None:
    """Cut off what follows the last whole line; whoever began it died, as the lock is ours."""
    end = file.seek(0, os.SEEK_END)
    if end == 0 or os.pread(file.fileno(), 1, end - 1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.readall().rfind(b"\n") + 1)


def _write_whole(file: FileIO, content: bytes) -> None:
    """Append lines, or none of them."""
    end, rest = file.seek(0, os.SEEK_END), memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        file.truncate(end)
        raise StoreError(
            f"{file.name} cannot be written: {error}. Make room, and give the same command again."
        ) from error


def study_names(storage: BaseStorage) -> list[str]:
    """Return the names of all studies: confirmations of others first, the one driven last last."""
    studies = [study for study in storage.get_all_studies() if "space" in study.user_attrs]
    studies.sort(
        key=lambda study: (
            "confirms" not in study.user_attrs,
            study.user_attrs.get("driven_at", 0.0),
        )
    )
    return [study.study_name for study in studies]


def in_memory() -> BaseStorage:
    """Return a storage that nobody else sees, and that is gone with it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return InMemoryStorage()

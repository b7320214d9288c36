"""Where studies are stored: the store's journal, or any database that Optuna knows."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation

from sqtune.errors import StoreError
from sqtune.store import Store


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
    """Optuna's journal file, without waiting for the disk at each line.

    What a killed process wrote is with the kernel already. What a power cut must not lose is how
    trials ended, and what led to it: those lines wait for the disk, some 0.1 to 8 ms each.
    """

    def __init__(self, path: Path, lock: _KernelLock) -> None:
        super().__init__(str(path), lock)
        self._path, self._kernel_lock = path, lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._kernel_lock.acquire()
        try:
            with self._path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                if any(log["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES for log in logs):
                    os.fsync(file.fileno())
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
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if url is not None:
            return RDBStorage(url)
        lock = _KernelLock(store.journal.with_suffix(".journal.lock"))
        if mend and store.journal.exists():
            _mend(store.journal, lock)
        return JournalStorage(_Journal(store.journal, lock))
    except Exception as error:  # SQLAlchemy and drivers raise all kinds
        place = f"--study-storage {url}" if url else str(store.journal)
        raise StoreError(
            f"{place} cannot be opened as a study storage: {error}. Give the URL of a database "
            "that answers, or leave --study-storage out."
        ) from error


def _mend(journal: Path, lock: _KernelLock) -> None:
    lock.acquire()
    try:
        with journal.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def study_names(storage: BaseStorage) -> list[str]:
    """Return the names of all studies, the one driven last at the end."""
    studies = [study for study in storage.get_all_studies() if "space" in study.user_attrs]
    studies.sort(key=lambda study: study.user_attrs.get("driven_at", 0.0))
    return [study.study_name for study in studies]


def in_memory() -> BaseStorage:
    """Return a storage that nobody else sees, and that is gone with it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return InMemoryStorage()

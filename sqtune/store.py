"""The store: the folder that holds studies, prepared data, networks and the tracking database.

STORE/studies.journal         Optuna's journal: the one truth about trials
STORE/mlflow.db, mlartifacts/ what MLflow records
STORE/data/                   prepared data sets
STORE/networks/STUDY/NUMBER/  trained networks
STORE/stages/                 checkpoints of stages that trials may share
STORE/logs/STUDY/NUMBER.log   what happened to a trial
STORE/locks/                  who drives which study
STORE/ray/                    Ray Tune's own notes, thrown away at the end of a search

A store may also lie under a URL. Then each machine has a folder with the same layout, its mirror:
what is written there for others is shared, what others wrote is fetched. Studies and records are
databases elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqtune.errors import StoreError
from sqtune.files import folder_of, is_url
from sqtune.files.locked import is_locked
from sqtune.mirror import PATIENCE_SECONDS, Mirror, cache_folder

DEFAULT_STORE = "sqtune-store"


@dataclass(frozen=True, slots=True)
class Store:
    """Where things lie in a store; creates nothing until something is written.

    Attributes:
        root: The folder, absolute; of a store under a URL this machine's mirror.
        url: The URL; None of a store that is a folder.
    """

    root: Path
    url: str | None = None

    @classmethod
    def at(cls, place: Path | str) -> Store:
        """Return the store in a folder, which need not exist yet, or under a URL.

        Raises:
            StoreError: The path is taken by something that is no folder, or nothing here knows what
                to do with the URL.
        """
        if not str(place) or str(place).endswith("://"):
            raise StoreError(
                f'--store "{place}": is no place. Give --store a folder, or a whole URL.'
            )
        if is_url(place):
            url = str(place).rstrip("/")
            store = cls(cache_folder() / file_name(url), url)
            Mirror(store.root, url).open()
            return store
        root = folder_of(place).absolute()
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is not a folder. Give --store another path.")
        return cls(root)

    @property
    def place(self) -> str:
        """What `at` takes: the folder or the URL."""
        return self.url or str(self.root)

    def create(self) -> None:
        """Make the folder, if need be, and check that it can be written.

        Raises:
            StoreError: It cannot.
        """
        hint = "Give --store another path."
        if self.url is not None:
            hint = "Give XDG_CACHE_HOME, a folder for this machine's copies."
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.root} cannot be made: {error.strerror}. {hint}") from error
        if not os.access(self.root, os.W_OK):
            raise StoreError(f"{self.root} cannot be written. {hint}")

    def reach(self) -> None:
        """Check that a URL answers and can be written.

        Raises:
            StoreError: It does not.
        """
        if self._mirror is not None:
            self._mirror.check()

    def share(self, path: Path, seconds: float = PATIENCE_SECONDS) -> None:
        """Give others a file or a folder that was written here; in a folder they have it already.

        Args:
            path: Where it lies in the store.
            seconds: How long to ask again, file by file, while the URL does not answer.

        Raises:
            WriteError: It cannot be written there.
        """
        if self._mirror is not None:
            self._mirror.share(path, seconds)

    def fetch(self, path: Path, *, newest: bool = False, seconds: float = PATIENCE_SECONDS) -> bool:
        """Tell whether there is a file or a folder; others' is copied here where need be.

        Args:
            path: Where it lies in the store.
            newest: Whether others' file may have grown; the longer one counts.
            seconds: How long to ask again while the URL does not answer.

        Raises:
            StoreError: The URL does not answer.
        """
        if self._mirror is None or (path.is_file() and not newest):
            return path.exists()
        return self._mirror.fetch(path, seconds)

    def name(self, path: Path) -> str:
        """Return by which name a file or a folder of the store is known on every machine."""
        return path.relative_to(self.root).as_posix()

    def forget(self, path: Path) -> None:
        """Remove this machine's copy of a folder that was shared."""
        if self._mirror is not None:
            shutil.rmtree(path, ignore_errors=True)

    def size(self, path: Path) -> int:
        """Return the bytes that a file or a folder takes in the store.

        Raises:
            StoreError: The URL does not answer.
        """
        if self._mirror is not None:
            return self._mirror.size(path)
        if path.is_file():
            return path.stat().st_size
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    @property
    def _mirror(self) -> Mirror | None:
        return None if self.url is None else Mirror(self.root, self.url)

    def _unless_url(self, what: str, option: str) -> Path:
        if self.url is not None:
            raise StoreError(
                f"--store {self.url}: {what} cannot lie under a URL. Give {option}, or a folder "
                "as the store."
            )
        return self.root

    @property
    def journal(self) -> Path:
        """Optuna's journal file.

        Raises:
            StoreError: The store lies under a URL.
        """
        root = self._unless_url("a study's file", "--study-storage postgresql://...")
        return root / "studies.journal"

    @property
    def tracking_uri(self) -> str:
        """MLflow's embedded tracking store.

        Raises:
            StoreError: The store lies under a URL.
        """
        root = self._unless_url("MLflow's database", "--tracking-uri http://...")
        return f"sqlite:///{root / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Artifacts of the embedded tracking store."""
        return self.root / "mlartifacts"

    @property
    def data(self) -> Path:
        """Prepared data sets."""
        return self.root / "data"

    @property
    def networks(self) -> Path:
        """Trained networks of all studies."""
        return self.root / "networks"

    def network(self, study: str, number: int) -> Path:
        """Trained network of a trial."""
        return self.networks / file_name(study) / f"{number:05d}"

    def comparison(self, study: str) -> Path:
        """Table and chart of a comparison, written anew whenever it ends."""
        return self.root / "comparisons" / file_name(study)

    @property
    def stages(self) -> str:
        """Checkpoints of stages: a folder or a URL."""
        return f"{self.place}/stages"

    def log(self, study: str, number: int) -> Path:
        """What happened to a trial, line by line."""
        return self.root / "logs" / file_name(study) / f"{number:05d}.log"

    def request_stop(self, study: str) -> None:
        """Ask the driver of a study to end the search after the running epochs."""
        self._lock(study).with_suffix(".stop").touch()

    def is_stop_requested(self, study: str) -> bool:
        """Tell whether the driver of a study has been asked to end the search."""
        return self._lock(study).with_suffix(".stop").exists()

    def ray(self, study: str) -> Path:
        """Ray Tune's notes on a running search."""
        return self.root / "ray" / file_name(study)

    @contextmanager
    def driven(self, study: str) -> Iterator[None]:
        """Hold the right to drive a study for the block; the kernel frees it if the process dies.

        Raises:
            StoreError: Another process drives it.
        """
        from filelock import FileLock, Timeout

        path = self._lock(study)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=1)  # `is_driven` holds it for a moment
        except Timeout:
            holder = path.with_suffix(".holder")
            who = holder.read_text(encoding="utf-8").strip() if holder.exists() else "a process"
            raise StoreError(
                f'the study "{study}" in {self.place} is being driven by {who}. Wait for it, stop '
                "it, or give another --name or --store."
            ) from None
        try:
            path.with_suffix(".stop").unlink(missing_ok=True)  # it was meant for an earlier driver
            path.with_suffix(".holder").write_text(
                f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8"
            )
            yield
        finally:
            path.with_suffix(".holder").unlink(missing_ok=True)
            path.with_suffix(".stop").unlink(missing_ok=True)
            lock.release()

    def is_driven(self, study: str) -> bool:
        """Tell whether a process drives the study now."""
        from filelock import FileLock, Timeout

        path = self._lock(study)
        if not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a store that may only be read
            return is_locked(path)
        lock.release()
        return False

    def driven_studies(self) -> list[str]:
        """Return the studies that processes drive now, by their names as files."""
        locks = self.root.glob("locks/*.lock")
        return sorted(path.stem for path in locks if is_locked(path))

    def _lock(self, study: str) -> Path:
        return self.root / "locks" / f"{file_name(study)}.lock"


def file_name(name: str) -> str:
    """Return a study's name as one safe file name, distinct for distinct names.

    >>> file_name("resnet")
    'resnet'
    """
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

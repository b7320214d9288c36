"""The store: the folder that holds studies, prepared data, networks and the tracking database.

STORE/studies.journal         Optuna's journal: the one truth about trials
STORE/mlflow.db, mlartifacts/ what MLflow records
STORE/data/                   prepared data sets
STORE/networks/STUDY/NUMBER/  trained networks
STORE/stages/                 checkpoints of stages that trials may share
STORE/logs/STUDY/NUMBER.log   what happened to a trial
STORE/locks/                  who drives which study
STORE/ray/                    Ray Tune's own notes, thrown away at the end of a search
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from sqtune.errors import StoreError

DEFAULT_STORE = "sqtune-store"


@dataclass(frozen=True, slots=True)
class Store:
    """Where things lie in a store; creates nothing until something is written.

    Attributes:
        root: The folder, absolute.
    """

    root: Path

    @classmethod
    def at(cls, folder: Path | str) -> Store:
        """Return the store in a folder, which need not exist yet.

        Raises:
            StoreError: The path is taken by something that is no folder.
        """
        if "://" in str(folder):
            raise StoreError(
                f"--store {folder}: a store is a folder, for a cluster one that all nodes share. "
                "Only stages may lie at a URL (stages.url)."
            )
        root = Path(folder).expanduser().absolute()
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is not a folder. Give --store another path.")
        return cls(root)

    def create(self) -> None:
        """Make the folder, if need be, and check that it can be written.

        Raises:
            StoreError: It cannot.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.root} cannot be made: {error.strerror}. Give --store another path."
            ) from error
        if not os.access(self.root, os.W_OK):
            raise StoreError(f"{self.root} cannot be written. Give --store another path.")

    @property
    def journal(self) -> Path:
        """Optuna's journal file."""
        return self.root / "studies.journal"

    @property
    def tracking_uri(self) -> str:
        """MLflow's embedded tracking store."""
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Artifacts of the embedded tracking store."""
        return self.root / "mlartifacts"

    @property
    def data(self) -> Path:
        """Prepared data sets."""
        return self.root / "data"

    def network(self, study: str, number: int) -> Path:
        """Trained network of a trial."""
        return self.root / "networks" / file_name(study) / f"{number:05d}"

    def comparison(self, study: str) -> Path:
        """Table and chart of a comparison, written anew whenever it ends."""
        return self.root / "comparisons" / file_name(study)

    @property
    def stages(self) -> Path:
        """Checkpoints of stages."""
        return self.root / "stages"

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
        path = self._lock(study)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=1)  # `is_driven` holds it for a moment
        except Timeout:
            holder = path.with_suffix(".holder")
            who = holder.read_text(encoding="utf-8").strip() if holder.exists() else "a process"
            raise StoreError(
                f'the study "{study}" in {self.root} is being driven by {who}. Wait for it, stop '
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
        path = self._lock(study)
        if not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a store that may only be read
            return False
        lock.release()
        return False

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

"""What is still to be written to MLflow, in order; a file takes what memory should not hold."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "start_study",
    "log_texts",
    "start_trial",
    "log_epoch",
    "end_trial",
    "record_ended_trial",
    "choose",
    "tag_front",
    "describe",
    "end_study",
]

MOST_IN_MEMORY = 10_000  # epochs or other entries, about 1 kB each
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to write.

    Attributes:
        kind: The method of `Writer` that writes it; `log_epoch` is collected for `log_epochs`.
        number: The trial it is about; None for the study.
        arguments: Its arguments beside the number, as JSON can hold them.
    """

    kind: Kind
    number: int | None
    arguments: Mapping[str, Any]

    @property
    def num_epochs(self) -> int:
        """Epochs whose metrics it carries."""
        return 1 if self.kind == "log_epoch" else len(self.arguments.get("epochs", ()))

    @property
    def weight(self) -> int:
        """Its share of the memory, in epochs."""
        return max(1, self.num_epochs)


@dataclass(frozen=True, slots=True)
class Left:
    """What has been put and is not settled.

    Attributes:
        epochs: Epochs by trial.
        entries: Jobs without epochs, by trial; None stands for the study.
    """

    epochs: Mapping[int | None, int]
    entries: Mapping[int | None, int]

    def __bool__(self) -> bool:
        return bool(self.epochs or self.entries)


class Jobs:
    """A queue in which `put` neither waits nor lets memory grow; one thread puts, one takes.

    A job stays counted in `left` until it is settled, whether or not it was taken.

    Args:
        spool_folder: Where the file lies, which has no name and ends with the process; None for
            the system's folder.
        most_in_memory: Weight that is held in memory; the file takes what comes after it.
    """

    def __init__(
        self, spool_folder: Path | None = None, most_in_memory: int = MOST_IN_MEMORY
    ) -> None:
        self._folder, self._most = spool_folder, most_in_memory
        self._changed = threading.Condition()
        self._memory: deque[Job] = deque()  # older than all in the file
        self._held = 0  # weight in memory
        self._file: Any = None
        self._read_to = self._written_to = 0  # bytes of the file
        self._epochs: Counter[int | None] = Counter()
        self._entries: Counter[int | None] = Counter()
        self._closed = False
        self.lost: set[int | None] = set()  # trials of which a job fits neither memory nor disk

    def put(self, job: Job) -> None:
        """Add a job."""
        with self._changed:
            self._count(job, 1)
            if self._read_to == self._written_to and self._held < self._most:
                self._remember(job)
            else:
                self._spool(job)
            self._changed.notify()

    def take(self, timeout_seconds: float) -> Job | None:
        """Return the oldest job; None if there is none within the time, or none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._any() or self._closed, timeout_seconds)
            if not self._memory and self._read_to < self._written_to:
                self._unspool()
            if not self._memory:
                return None
            self._held -= self._memory[0].weight
            return self._memory.popleft()

    def settle(self, job: Job) -> None:
        """Take a job that is done out of `left`."""
        with self._changed:
            self._count(job, -1)

    def close(self) -> None:
        """Say that no job will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def closed(self) -> bool:
        """Whether no job will come."""
        return self._closed

    @property
    def drained(self) -> bool:
        """Whether all jobs were taken and no job will come."""
        with self._changed:
            return self._closed and not self._any()

    def left(self) -> Left:
        """Return what is not settled."""
        with self._changed:
            return Left(dict(+self._epochs), dict(+self._entries))

    def discard(self) -> None:
        """Give the file back; what is in it can no longer be taken, only counted."""
        with self._changed:
            self._closed = True
            self._read_to = self._written_to = 0
            if self._file is not None:
                self._file.close()

    def _any(self) -> bool:
        return bool(self._memory) or self._read_to < self._written_to

    def _remember(self, job: Job) -> None:
        self._memory.append(job)
        self._held += job.weight

    def _count(self, job: Job, sign: int) -> None:
        if job.num_epochs:
            self._epochs[job.number] += sign * job.num_epochs
        else:
            self._entries[job.number] += sign

    def _spool(self, job: Job) -> None:
        fields = {"kind": job.kind, "number": job.number, "arguments": job.arguments}
        line = memoryview(json.dumps(fields, default=float).encode() + b"\n")
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            written = 0
            while written < len(line):
                written += os.pwrite(
                    self._file.fileno(), line[written:], self._written_to + written
                )
        except OSError:  # what was written of it is written over by the next
            self.lost.add(job.number)
        else:
            self._written_to += len(line)

    def _unspool(self) -> None:
        size = CHUNK_BYTES
        while b"\n" not in (data := self._read(size)):
            size *= 2
        whole = data[: data.rindex(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            self._remember(Job(**json.loads(line)))
        if self._read_to == self._written_to:
            self._read_to = self._written_to = 0
            os.ftruncate(self._file.fileno(), 0)

    def _read(self, size: int) -> bytes:
        size = min(size, self._written_to - self._read_to)
        return os.pread(self._file.fileno(), size, self._read_to)

"""The thread that writes to MLflow: it waits for a server that is away and asks again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from sqtune.errors import TrackingError
from sqtune.settings import without_password
from sqtune.tracking.jobs import Job, Jobs
from sqtune.tracking.writer import Writer

FLUSH_SECONDS = 2.0  # epochs wait so long for company
MOST_PENDING = 5_000  # epochs
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 15.0
CONNECT_ATTEMPTS = 3
PATIENCE_SECONDS = 30.0  # with a request that fails though the server answers
LEAST_ATTEMPTS = 3  # before that, however long they took
HURRY_SECONDS = 3.0  # the same, once all jobs are there
AWAY_SECONDS = 20.0  # how long the end waits for a server that does not answer
LASTING = {  # MLflow's names of what asking again does not mend
    "INVALID_PARAMETER_VALUE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "CUSTOMER_UNAUTHORIZED",
    "RESOURCE_DOES_NOT_EXIST",
    "NOT_IMPLEMENTED",
}


class Worker:
    """Does jobs in order. Epochs of a trial that come within two seconds are sent together.

    A request that fails is repeated, with growing pauses, for as long as the server does not
    answer. A trial whose request fails though the server answers is given up: nothing more of it
    is written, so that its run does not look complete. Without the study's run nothing is.

    Args:
        writer: Writes to MLflow.
        jobs: What to write.
        patient: Whether a server that is not there at the start is waited for, too.
    """

    def __init__(self, writer: Writer, jobs: Jobs, *, patient: bool = False) -> None:
        self._writer, self._jobs, self._patient = writer, jobs, patient
        self._pending: dict[int, list[Job]] = {}
        self._due: dict[int, float] = {}
        self._given_up: dict[int | None, str] = {}
        self._hopeless = False
        self._failing: tuple[float, str] | None = None  # since when, why
        self._stop = threading.Event()
        self.connected = threading.Event()  # or not: `unreachable` says so
        self.unreachable: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="sqtune-tracking", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """What keeps something from being written, in a few words; None while all is well."""
        failing = self._failing
        if failing is not None:
            return f"no answer for {time.monotonic() - failing[0]:.0f} s: {failing[1]}"
        if self._given_up:
            return next(iter(self._given_up.values()))
        return "no space for what has to wait" if self._jobs.lost else None

    def finish(self, timeout_seconds: float) -> None:
        """Wait until all is written, but not for long if the server does not answer.

        The jobs have to be closed.
        """
        begun = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - begun < timeout_seconds:
            failing = self._failing
            if failing and time.monotonic() - max(failing[0], begun) >= AWAY_SECONDS:
                break
            self._thread.join(0.05)
        self._stop.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        connected = self._connect()
        self.connected.set()
        if not connected:
            return
        while not self._stop.is_set():
            job = self._jobs.take(FLUSH_SECONDS / 2)
            if job is not None:
                self._do(job)
            drained = self._jobs.drained
            now = time.monotonic()
            full = sum(map(len, self._pending.values())) >= MOST_PENDING
            for number in list(self._pending):
                if drained or full or now >= self._due[number]:
                    self._flush(number)
            if drained:
                return

    def _connect(self) -> bool:
        for attempt in count():
            try:
                self._writer.connect()
            except Exception as error:  # whatever MLflow, SQLAlchemy or a socket raises
                if not self._patient and attempt + 1 == CONNECT_ATTEMPTS:
                    self.unreachable = error
                since = self._failing[0] if self._failing else time.monotonic()
                self._failing = (since, first_line(error))
            else:
                self._failing = None
                return True
            if self.unreachable is not None or self._stop.is_set():
                return False
            self._wait(_delay(attempt))
        raise AssertionError("it has returned")

    def _do(self, job: Job) -> None:
        if job.kind == "log_epoch" and job.number is not None:
            self._pending.setdefault(job.number, []).append(job)
            self._due.setdefault(job.number, time.monotonic() + FLUSH_SECONDS)
            return
        if job.number is not None:
            self._flush(job.number)
        arguments = dict(job.arguments)
        if job.number is not None:
            arguments["number"] = job.number
        if self._attempt(job.number, partial(getattr(self._writer, job.kind), **arguments)):
            self._jobs.settle(job)
        elif job.kind == "start_study":
            self._hopeless = True

    def _flush(self, number: int) -> None:
        jobs = self._pending.pop(number, [])
        self._due.pop(number, None)
        records = [job.arguments["record"] for job in jobs]
        if jobs and self._attempt(number, partial(self._writer.log_epochs, number, records)):
            for job in jobs:
                self._jobs.settle(job)

    def _attempt(self, number: int | None, action: Callable[[], None]) -> bool:
        """Do something, again and again if need be; tell whether it is done."""
        if self._hopeless or (number is not None and number in self._jobs.lost):
            return False
        if number is not None and number in self._given_up:
            return False
        begun, attempt = time.monotonic(), 0
        while not self._stop.is_set():
            try:
                action()
            except Exception as error:  # whatever MLflow, SQLAlchemy, a socket or a disk raises
                if is_lasting(error) or (attempt >= LEAST_ATTEMPTS and self._lasts(begun)):
                    self._failing = None
                    self._given_up[number] = first_line(error)
                    return False
                since = self._failing[0] if self._failing else time.monotonic()
                self._failing = (since, first_line(error))
            else:
                self._failing = None
                return True
            self._wait(_delay(attempt))
            attempt += 1
        return False

    def _lasts(self, begun: float) -> bool:
        """Tell whether a request has failed for long enough and not for want of a server."""
        patience = HURRY_SECONDS if self._jobs.closed else PATIENCE_SECONDS
        return time.monotonic() - begun >= patience and self._writer.answers()

    def _wait(self, seconds: float) -> None:
        """Wait; shorter when the end has come."""
        begun = time.monotonic()
        while not self._stop.is_set():
            left = begun + seconds - time.monotonic()
            if self._jobs.closed:
                left = min(left, begun + 2 * FIRST_DELAY_SECONDS - time.monotonic())
            if left <= 0:
                return
            self._stop.wait(min(left, 0.2))


def is_lasting(error: Exception) -> bool:
    """Tell whether asking again cannot help."""
    if isinstance(error, (TrackingError, FileNotFoundError, PermissionError)):
        return True
    return getattr(error, "error_code", None) in LASTING


def first_line(error: Exception) -> str:
    """Return an error in at most 300 characters, without the passwords of addresses in it."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return without_password(first)[:300]


def _delay(attempt: int) -> float:
    return min(FIRST_DELAY_SECONDS * 2.0**attempt, LONGEST_DELAY_SECONDS)

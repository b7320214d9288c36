"""MLflow: one run per study, one child run per trial, written by a thread of its own.

The study's storage is the truth and MLflow a picture of it: whatever a crash or a dead server kept
from being written is written when the study is driven again, from the same times, so nothing is
doubled. A tracking store that fails never stops a search.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqtune.errors import TrackingError
from sqtune.tracking.writer import FLUSH_SECONDS, RunStatus, Writer, quiet_environment

__all__ = ["RunStatus", "Tracker", "quiet_environment"]


class Tracker:
    """Records one study. Every method returns at once; a thread does the work in order.

    Args:
        uri: MLflow's tracking URI.
        artifacts: Folder for the artifacts where the store is embedded; None leaves the choice to
            the tracking server.
        study: The study's name, which is also the experiment's.
    """

    def __init__(self, uri: str, artifacts: Path | None, study: str) -> None:
        self._uri = uri
        self._writer = Writer(uri, artifacts, study)
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=100_000)
        self._error: Exception | None = None
        self._connected = threading.Event()
        self.new_run_ids: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sqtune-tracking", daemon=True)
        self._thread.start()

    @property
    def error(self) -> Exception | None:
        """What kept it from recording; None while all is well."""
        return self._error

    def wait_until_connected(self) -> None:
        """Wait until the tracking store has answered.

        Raises:
            TrackingError: It did not.
        """
        self._connected.wait()
        if self._error is not None:
            raise TrackingError(
                f"the tracking store {self._uri} does not answer: {_first_line(self._error)}. "
                "Start it, give another --tracking-uri, or leave it out for the embedded one."
            ) from self._error

    def start_study(
        self,
        uuid: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        texts: Mapping[str, str],
    ) -> None:
        """Create the study's run, or open the one there is; write tags, parameters and files.

        `uuid` is the study's identity: two studies of one name on a server are kept apart.
        """
        self._queue.put(lambda: self._writer.start_study(uuid, tags, params, texts))

    def start_trial(self, number: int, params: Mapping[str, Any]) -> None:
        """Create a trial's run, or open the one there is."""
        self._queue.put(lambda: self._start_trial(number, params))

    def log_epoch(self, number: int, record: Mapping[str, float]) -> None:
        """Record an epoch's metrics; `epoch` is the step and `time` the time in ms since 1970."""
        self._queue.put(lambda: self._writer.log_epoch(number, record))

    def end_trial(
        self,
        number: int,
        status: RunStatus,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        """End a trial's run with its last metrics, tags and files."""
        self._queue.put(
            lambda: self._writer.end_trial(number, status, metrics or {}, tags or {}, tuple(files))
        )

    def record_ended_trial(
        self,
        number: int,
        params: Mapping[str, Any],
        epochs: Sequence[Mapping[str, float]],
        **end: Any,
    ) -> None:
        """Record a trial that ended in an earlier run of the driver, where that is missing."""

        def record() -> None:
            if self._writer.is_recorded(number):
                return
            self._start_trial(number, params)
            for epoch in epochs:
                self._writer.log_epoch(number, epoch)
            self._writer.end_trial(number, **end)

        self._queue.put(record)

    def choose(self, number: int, files: Sequence[Path], tags: Mapping[str, str]) -> None:
        """Mark a trial's run as the study's best and add its files, unless that is done."""
        self._queue.put(lambda: self._writer.choose(number, files, tags))

    def end_study(self, status: RunStatus, metrics: Mapping[str, float]) -> None:
        """End the study's run with its summary."""
        self._queue.put(lambda: self._writer.end_study(status, metrics))

    def close(self, timeout_seconds: float = 60.0) -> None:
        """Write what is left and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        if self._thread.is_alive() and self._error is None:
            self._error = TrackingError(f"{self._uri} was still busy after {timeout_seconds:g} s")

    def _work(self) -> None:
        try:
            self._writer.connect()
        except Exception as error:  # whatever MLflow, SQLAlchemy or a socket raises
            self._error = error
        self._connected.set()
        while True:
            try:
                job = self._queue.get(timeout=FLUSH_SECONDS)
            except queue.Empty:
                self._guarded(self._writer.flush_old)
                continue
            if job is None:
                return
            self._guarded(job)
            self._guarded(self._writer.flush_old)

    def _guarded(self, job: Callable[[], None]) -> None:
        """Do a job unless an earlier one failed: the study brings MLflow up to date later."""
        if self._error is None:
            try:
                job()
            except Exception as error:
                self._error = error

    def _start_trial(self, number: int, params: Mapping[str, Any]) -> None:
        self.new_run_ids.put((number, self._writer.start_trial(number, params)))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""MLflow: one run per study, one child run per trial, written by a thread of its own.

The study's storage is the truth and MLflow a picture of it. A server that is away for a while is
waited for and then told all it missed; whatever a crash or a server that stayed away kept from
being written is written when the study is driven again, from the same times, so nothing is
doubled. A tracking store that fails never stops a search.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqtune.errors import TrackingError
from sqtune.settings import without_password
from sqtune.tracking.jobs import Job, Jobs, Kind, Left
from sqtune.tracking.quiet import quiet_environment
from sqtune.tracking.runs import NOTE_TAG
from sqtune.tracking.worker import Worker, first_line
from sqtune.tracking.writer import RunStatus, Writer

__all__ = ["NOTE_TAG", "RunStatus", "Tracker", "quiet_environment"]


class Tracker:
    """Records one study. Every method returns at once; a thread does the work in order.

    Args:
        uri: MLflow's tracking URI.
        artifacts: Folder for the artifacts where the store is embedded; None leaves the choice to
            the tracking server.
        study: The study's name, which is also the experiment's.
        spool_folder: Where a nameless file takes what memory should not hold while the server is
            away; None for the system's folder of temporary files.
        fetch: Makes a file be here that another machine wrote.
        offline: Whether the server need not be there at the start: all waits for it.
        recorded: The identity of a study that is recorded already, whose runs stay as they are but
            for what is put here; None for one that is driven, which `start_study` begins.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Path | None,
        study: str,
        spool_folder: Path | None = None,
        fetch: Callable[[Path], object] = Path.exists,
        *,
        offline: bool = False,
        recorded: str | None = None,
    ) -> None:
        self._uri = uri
        self._jobs = Jobs(spool_folder)
        self._missing: str | None = None
        self.new_run_ids: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        writer = Writer(
            *(uri, artifacts, study, lambda *new: self.new_run_ids.put(new), fetch, recorded)
        )
        self._writer = writer
        self._worker = Worker(writer, self._jobs, patient=offline)

    @property
    def error(self) -> str | None:
        """What kept it from recording, on a line; None while all is well, or may yet be."""
        unreachable = self._worker.unreachable
        return self._missing if unreachable is None else first_line(unreachable)

    @property
    def trouble(self) -> str | None:
        """What keeps something from being recorded just now, and may pass; None if nothing does."""
        return self._worker.trouble

    @property
    def front_page(self) -> str | None:
        """Address of the page of the front's runs; None where no server has them."""
        return self._writer.front_page

    def wait_until_connected(self) -> None:
        """Wait until the tracking store has answered.

        Raises:
            TrackingError: It did not.
        """
        self._worker.connected.wait()
        if self._worker.unreachable is not None:
            raise TrackingError(
                f"the tracking store {without_password(self._uri)} does not answer: "
                f"{first_line(self._worker.unreachable)}. "
                "Start it, give another --tracking-uri, leave it out for the embedded one, or give "
                "--offline: what it misses is written when the same command goes on."
            ) from self._worker.unreachable

    def start_study(
        self,
        uuid: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        texts: Mapping[str, str],
        searched: Sequence[str] = (),
    ) -> None:
        """Create the study's run, or open the one there is; write tags, parameters and files.

        `uuid` is the study's identity: two studies of one name on a server are kept apart.
        `searched` are the parameters that differ between trials, for the page of the front.
        """
        words = _as_text(params)
        more = {"time_ms": _now_ms(), "searched": list(searched)}
        self._put("start_study", None, uuid=uuid, tags=dict(tags), params=words, **more)
        self.log_texts(texts)

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Write files of the study's run, by name; those that are there are written anew."""
        self._put("log_texts", None, texts=dict(texts))

    def start_trial(self, number: int, params: Mapping[str, Any]) -> None:
        """Create a trial's run, or open the one there is."""
        self._put("start_trial", number, params=_as_text(params), time_ms=_now_ms())

    def log_epoch(self, number: int, record: Mapping[str, float]) -> None:
        """Record an epoch's metrics; `epoch` is the step and `time` the time in ms since 1970."""
        self._put("log_epoch", number, record=dict(record))

    def end_trial(
        self,
        number: int,
        status: RunStatus,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        """End a trial's run with its last metrics, tags and files.

        The run of a trial that was stopped early is KILLED with the tag sqtune.state=stopped; one
        that is KILLED without it is taken for interrupted, and is opened again.
        """
        self._put("end_trial", number, **_end(status, metrics, tags, files))

    def record_ended_trial(
        self,
        number: int,
        params: Mapping[str, Any],
        epochs: Sequence[Mapping[str, float]],
        status: RunStatus,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        """Record a trial that ended in an earlier run of the driver, where that is missing.

        `epochs` are as in `log_epoch`, the end as in `end_trial`.
        """
        end = _end(status, metrics, tags, files)
        records = [dict(epoch) for epoch in epochs]
        self._put("record_ended_trial", number, params=_as_text(params), epochs=records, **end)

    def choose(self, number: int, files: Sequence[Path], tags: Mapping[str, str]) -> None:
        """Mark a trial's run as the study's best and add its files, unless that is done."""
        self._put("choose", number, files=[str(file) for file in files], tags=dict(tags))

    def tag_front(self, numbers: Collection[int]) -> None:
        """Tag the runs of these trials sqtune.front=true and all others false."""
        self._put("tag_front", None, numbers=sorted(numbers))

    def describe(self, text: str) -> None:
        """Put a text in Markdown on the pages of the experiment and of the study's run.

        Links to `trial:NUMBER`, `front` and `charts` become links to their pages.
        """
        self._put("describe", None, text=text)

    def end_study(self, status: RunStatus, metrics: Mapping[str, float]) -> None:
        """End the study's run with its summary."""
        self._put("end_study", None, status=status, metrics=dict(metrics), time_ms=_now_ms())

    def close(self, timeout_seconds: float = 60.0) -> None:
        """Write what is left and end the thread; afterwards `error` says what is missing.

        For a server that does not answer it waits 20 seconds, for one that does the given time.
        """
        if self._jobs.closed:
            return
        self._jobs.close()
        self._worker.finish(timeout_seconds)
        left = self._jobs.left()
        self._jobs.discard()
        if left:
            reason = self._worker.trouble or f"still busy after {timeout_seconds:g} s"
            place = without_password(self._uri)
            self._missing = f"{_in_words(left)} missing on {place}: {reason}"

    def _put(self, kind: Kind, number: int | None, **arguments: Any) -> None:
        if self._worker.unreachable is None:
            self._jobs.put(Job(kind, number, arguments))


def _end(
    status: RunStatus,
    metrics: Mapping[str, float] | None,
    tags: Mapping[str, str] | None,
    files: Sequence[Path],
) -> dict[str, Any]:
    return {
        "status": status,
        "metrics": dict(metrics or {}),
        "tags": dict(tags or {}),
        "files": [str(file) for file in files],
        "time_ms": _now_ms(),
    }


def _as_text(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in params.items()}


def _now_ms() -> int:
    return int(time.time() * 1000)


def _in_words(left: Left) -> str:
    """Say what is left, for example "3 epochs and 1 other entry of trial 7 are"."""
    counts = (
        (sum(left.epochs.values()), "epoch", "epochs"),
        (
            sum(left.entries.values()),
            "other entry",
            "other entries",
        ),
    )
    parts = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    numbers = sorted(key for key in {*left.epochs, *left.entries} if key is not None)
    shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    whose = [f"trial{'s' if len(numbers) > 1 else ''} {shown}"] if numbers else []
    if None in left.entries:
        whose.append("the study")
    verb = "is" if sum(count for count, _, _ in counts) == 1 else "are"
    return f"{' and '.join(parts)} of {' and '.join(whose)} {verb}"

"""What a worker does with a trial, without Ray: trains it on, epoch by epoch, and reports.

A trial may take several legs: it is given back at a rung, when the search ends, or when another
trial is training what it needs next. Its stages are stored, so the next leg goes on where this one
ended.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sqtune.errors import SqtuneError, StageBusy, StoreError, WriteError
from sqtune.search.log_text import BEGINNING, beginning, ending, epoch_text
from sqtune.search.worker_memory import memory_taken
from sqtune.store import Store

_SUITED: set[str] = set()  # drivers that this process has been compared with
FINISH_SECONDS = 60.0  # for stages to be written to a URL, where another node may need them
LOG_SECONDS = 5.0  # for a log to be copied from or to a URL
REPORT_SECONDS = 1.0  # epochs shorter than this travel together


@dataclass(frozen=True, slots=True)
class Assignment:
    """One leg of a trial as a worker gets it.

    Attributes:
        number: The trial's number.
        config: Its TrialConfig as JSON.
        store: The store, a folder or a URL.
        data: The prepared data set, by its name in the store.
        save_to: Folder for the trained network, likewise.
        num_threads: Threads of torch.
        device: "cpu" or "cuda".
        log: File that what happens is appended to, likewise.
        watchdog_seconds: An epoch that takes longer ends the process.
        rungs: Epochs after which the search decides whether the trial goes on.
        stages: Folder or URL of the stage store; None trains everything anew.
        stages_max_size: Bytes that the stages may take.
        keep: Epochs whose checkpoint other trials may start from.
        owner: The trial's name among all that use the stage store.
        origin: What a worker of a cluster must have in common with the driver (`Origin`).
        gpus: GPUs that it gets; a share of one is a share of its memory.
    """

    number: int
    config: str
    store: str
    data: str
    save_to: str
    num_threads: int
    device: str
    log: str
    watchdog_seconds: float
    rungs: Sequence[int] = ()
    stages: str | None = None
    stages_max_size: int = 0
    keep: Sequence[int] = ()
    owner: str = ""
    origin: Mapping[str, Any] | None = None
    gpus: float = 0.0


class Leg:
    """One leg of a trial, in the process that trains it."""

    def __init__(self, assignment: Assignment) -> None:
        import sqtune.train.loop  # noqa: F401  (once per process, before the trial's clock starts)

        self.assignment = assignment
        self._started_at = time.time()
        self._session: Any = None
        self._results: Iterator[Any] | None = None
        self._unsuited = _unsuited(assignment.origin)
        self._log: TextIO | None = None
        if self._unsuited is not None:  # perhaps it does not even know what the store's URL means
            return
        self._store = Store.at(assignment.store)
        self._log_path = self._store.root / assignment.log
        self._log = self._open_log()

    def advance(self) -> dict[str, Any]:
        """Train for about a second, at least one epoch, and never past a rung; report.

        The report has `number`, `epochs` (their results) and `done`; at the end one of `facts`
        (finished), `failure` (the reason), `busy` (another trial trains what is needed next),
        `out_of_memory` (what it had taken of a GPU's memory and why that was not enough),
        `unwritable` (why the network could not be written now) and `unsuited` (why this node must
        not train).
        """
        report: dict[str, Any] = {"number": self.assignment.number, "epochs": [], "done": True}
        if self._unsuited is not None:
            return {**report, "unsuited": self._unsuited}
        try:
            report["done"] = self._train(report["epochs"])
            if report["done"]:
                self._hand_in()
                report["facts"] = self._facts()
        except StageBusy as busy:
            report["busy"] = str(busy)
        except WriteError as error:
            where = "" if self.assignment.origin is None else f"node {socket.gethostname()}: "
            report["unwritable"] = f"{where}{error}"
        except SqtuneError as error:
            report["failure"] = str(error)
        except Exception as error:  # a fault in the program: the study goes on, the reason is kept
            report.update(_fault(error, self.assignment.device))
        self._say_ending(report)
        return {**report, **memory_taken(self.assignment.device)}

    def close(self) -> None:
        """Let go of the trial."""
        faulthandler.cancel_dump_traceback_later()
        if self._results is not None:
            self._results.close()  # type: ignore[attr-defined]
        if self._session is not None:
            self._session.finish(FINISH_SECONDS)
        self._results = self._session = None
        from sqtune.train.gpu_memory import release_memory

        release_memory(self.assignment.device)
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.close()
            with contextlib.suppress(StoreError, OSError):  # a log that is missing ends no trial
                self._store.share(self._log_path, LOG_SECONDS)

    def _train(self, epochs: list[dict[str, float]]) -> bool:
        """Append the results of epochs; tell whether the last one is among them."""
        if self._results is None:
            self._results = self._start()
        stop_at = time.perf_counter() + REPORT_SECONDS
        self._watch()
        begun = time.perf_counter()
        for result in self._results:
            seconds, begun = time.perf_counter() - begun, time.perf_counter()
            epochs.append(
                {
                    "epoch": result.epoch,
                    "seconds": round(seconds, 4),
                    **({"restored": 1.0} if result.restored else {}),
                    **result.metrics(),
                }
            )
            self._say(epoch_text(epochs[-1]))
            if result.final:
                return True
            if result.epoch in self.assignment.rungs:
                self._stored()  # another node may be the one that goes on
                return False
            if time.perf_counter() >= stop_at:
                return False
            self._watch()
        raise AssertionError("train() ends with a final result")

    def _stored(self) -> None:
        """Wait until what was trained is where others find it, but not for long."""
        faulthandler.cancel_dump_traceback_later()
        if self._session is not None:
            self._session.finish(FINISH_SECONDS)

    def _hand_in(self) -> None:
        """Give others the trained network."""
        self._stored()
        folder = self._store.root / self.assignment.save_to
        self._store.share(folder)
        self._store.forget(folder)

    def _start(self) -> Iterator[Any]:
        from sqtune.config.trial import TrialConfig
        from sqtune.data.split import open_prepared
        from sqtune.train.gpu_memory import limit_memory
        from sqtune.train.loop import train

        assignment, root = self.assignment, self._store.root
        self._say(beginning(os.getpid(), assignment.config))
        data = root / assignment.data
        try:
            there = self._store.fetch(data)
        except StoreError as error:  # not the trial's fault
            raise WriteError(str(error)) from error
        if not there:
            where = f"{assignment.data} is missing in {assignment.store}"
            raise StoreError(f"{where}. The same command makes it anew.")
        limit_memory(assignment.device, assignment.gpus)
        if assignment.stages is not None:
            from sqtune.train.stage_session import StageSession
            from sqtune.train.stage_store import StageStore

            store = StageStore(assignment.stages, assignment.stages_max_size)
            self._session = StageSession(store, assignment.owner, tuple(assignment.keep))
        return train(
            TrialConfig.model_validate_json(assignment.config),
            splits=open_prepared(data),
            device=assignment.device,
            num_threads=assignment.num_threads,
            save_to=root / assignment.save_to,
            stages=self._session,
        )

    def _facts(self) -> dict[str, Any]:
        from sqtune.data.split import open_prepared

        problem = None if self._session is None else self._session.problem
        return {
            "num_validation": len(
                open_prepared(self._store.root / self.assignment.data).validation
            ),
            "started_at": self._started_at,
            "ended_at": time.time(),
            "process": os.getpid(),
            "gpus": self.assignment.gpus,
            **({} if problem is None else {"stage_problem": problem}),
        }

    def _watch(self) -> None:
        """End this process, with its stacks in the log, unless an epoch ends in time.

        The timer is the interpreter's own thread: a step that never returns does not stop it.
        """
        assert self._log is not None
        faulthandler.dump_traceback_later(
            self.assignment.watchdog_seconds, exit=True, file=self._log
        )

    def _open_log(self) -> TextIO:
        path = self._log_path
        with contextlib.suppress(StoreError):
            self._store.fetch(path, newest=True, seconds=LOG_SECONDS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a", encoding="utf-8", errors="replace")
        except OSError:  # a full disk
            return Path(os.devnull).open("a", encoding="utf-8")

    def _say_ending(self, report: dict[str, Any]) -> None:
        faulthandler.cancel_dump_traceback_later()
        if (text := ending(report)) is not None:
            self._say(text)

    def _say(self, text: str) -> None:
        if self._log is None:
            return
        with contextlib.suppress(OSError):  # a full disk under the logs ends no trial
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=self._log, flush=True)


def _fault(error: Exception, device: str) -> dict[str, Any]:
    """Return what is reported of an error that is not ours."""
    from sqtune.train.gpu_memory import is_shortage, taken

    if is_shortage(error):
        why = str(error).strip().splitlines()[0]
        return {"out_of_memory": {"why": why, **taken(device)}}
    return {"failure": traceback.format_exc()}


def _unsuited(origin: Mapping[str, Any] | None) -> str | None:
    """Return why this node must not train for the driver; None where it may."""
    if origin is None:
        return None
    from sqtune.search.origin import problem

    if origin["content"] in _SUITED:
        return None
    found = problem(origin)
    if found is None:
        _SUITED.add(origin["content"])
    return None if found is None else f"node {socket.gethostname()}: {found}"


def death_reason(times: int, log: Path) -> str:
    """Return why a worker process died: what its log says of a watchdog, or the usual reason."""
    hint = (
        "out of memory is the usual reason: give fewer trials at once (search.max_concurrent) or "
        "a smaller batch_size"
    )
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
        if "Timeout (" in text.rpartition(BEGINNING)[2]:  # of the last leg
            hint = (
                "no epoch ended within search.watchdog_seconds; its log has the stacks. Give a "
                "longer time if epochs really take so long"
            )
    except OSError:
        pass
    return f"its worker process died {times} times; {hint}. See: {log}"

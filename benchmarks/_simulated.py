"""Searches whose workers train nothing: real driver, study, store and Ray; simulated epochs."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
from optuna.storages import BaseStorage

from sqtune.config import SearchSpace, TrialConfig
from sqtune.provenance import provenance
from sqtune.search.courses import Courses
from sqtune.search.driver import Driver
from sqtune.search.executor import TrialActor
from sqtune.search.limits import Limits
from sqtune.search.prepare import footprints, prepare_data, stage_store
from sqtune.search.progress import Progress
from sqtune.search.study import Study
from sqtune.search.worker import REPORT_SECONDS, Assignment
from sqtune.store import Store
from sqtune.tracking import Tracker

SPACE = Path(__file__).resolve().parents[1] / "search_spaces" / "resnet.yaml"
START_SECONDS = 600.0  # for all actors to be up


def epoch_result(number: int, epoch: int, seconds: float) -> dict[str, float]:
    """Return what a training would report of an epoch."""
    return {
        "epoch": epoch,
        "seconds": seconds,
        "train_loss": 1.0,
        "val_error": 1 / (2 + epoch + number % 7),
        "val_error_hybrid": 0.1,
        "ratio": 1.0,
        "lr": 0.1,
        "quantization_error": 0.1,
        "changed_rows": 0.1,
        "images_per_second": 1.0,
    }


class NoWork(TrialActor):
    """Reports what a training would, at once."""

    num_epochs = 4

    def setup(self, config: dict[str, Any]) -> None:
        self._number = config["number"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        number = self._number
        epochs = [epoch_result(number, epoch, 0.0) for epoch in range(1, self.num_epochs + 1)]
        facts = {"num_validation": 451, "node": "here", "started_at": 0.0, "ended_at": 0.0}
        return {"number": number, "epochs": epochs, "facts": facts, "done": True}

    def cleanup(self) -> None:
        pass


class Talker(NoWork):
    """Reports an epoch at once, and another one, and so on."""

    num_reports = 500

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)
        self._said = 0

    def step(self) -> dict[str, Any]:
        self._said += 1
        epochs = [epoch_result(self._number, self._said, 0.0)]
        return {"number": self._number, "epochs": epochs, "done": self._said == self.num_reports}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long simulated epochs take: networks differ by about a third, epochs by a twentieth.

    Attributes:
        num_slots: Trials at once; none begins before so many actors are up.
        num_epochs: Of a trial.
        epoch_seconds: The median.
        seed: Of all durations.
        folder: Where actors say that they are up.
    """

    num_slots: int
    num_epochs: int
    epoch_seconds: float
    seed: int
    folder: Path

    def seconds(self, number: int) -> list[float]:
        """Return the seconds of each epoch of a trial."""
        draw = random.Random(f"{self.seed}:{number}")
        size = self.epoch_seconds * draw.lognormvariate(0.0, 0.3)
        return [size * draw.lognormvariate(0.0, 0.05) for _ in range(self.num_epochs)]

    def ideal_seconds(self, numbers: Sequence[int]) -> float:
        """Return how long trials take in this order if every free slot has the next one at once."""
        slots = [0.0] * self.num_slots
        for number in numbers:
            heapq.heapreplace(slots, slots[0] + sum(self.seconds(number)))
        return max(slots)

    def wait_for_all(self, name: str) -> float:
        """Wait until all actors are up; return that moment, the same for all (Unix time)."""
        (self.folder / name).touch()
        deadline = time.monotonic() + START_SECONDS
        while len(up := list(self.folder.iterdir())) < self.num_slots:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(up)} of {self.num_slots} actors are up")
            time.sleep(0.5)
        moment = max(path.stat().st_mtime for path in up) + 2.0
        time.sleep(max(0.0, moment - time.time()))
        return moment


def sleeper(plan: Plan) -> type[TrialActor]:
    """Return an actor that sleeps where a training would train, and says what it waited for.

    Its reports have `began_at` in addition, the moment when all were up; `idle`, the seconds since
    its last report, and `between`, what they lie between ("epochs" or "trials"; "" in its first);
    and `overslept`, the seconds by which sleeping took longer than planned.
    """

    class Sleeper(TrialActor):
        _began_at = _reported_at = 0.0

        def setup(self, config: dict[str, Any]) -> None:
            self._number = config["number"]
            self._left = list(enumerate(plan.seconds(self._number), 1))
            self._started_at: float | None = None

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            between = "trials" if self._started_at is None else "epochs"
            if not self._began_at:
                between = ""
                name = ray.get_runtime_context().get_actor_id()
                self._began_at = self._reported_at = plan.wait_for_all(name)
            begun = time.time()
            self._started_at = self._started_at or begun
            epochs, overslept = [], 0.0
            while self._left and (not epochs or time.time() < begun + REPORT_SECONDS):
                epoch, planned = self._left.pop(0)
                asleep = time.time()
                time.sleep(planned)
                slept = time.time() - asleep
                overslept += slept - planned
                epochs.append(epoch_result(self._number, epoch, slept))
            report = {
                "number": self._number,
                "epochs": epochs,
                "done": not self._left,
                "began_at": self._began_at,
                "idle": begun - self._reported_at,
                "between": between,
                "overslept": overslept,
            }
            self._reported_at = time.time()
            if not self._left:
                report["facts"] = {
                    "num_validation": 451,
                    "started_at": self._started_at,
                    "ended_at": self._reported_at,
                    "node": ray.util.get_node_ip_address(),
                    "node_id": ray.get_runtime_context().get_node_id(),
                }
            return report

        def cleanup(self) -> None:
            pass

    return Sleeper


class Unrecorded:
    """A tracker that records nothing."""

    def __init__(self) -> None:
        self.new_run_ids: SimpleQueue[tuple[int, str]] = SimpleQueue()

    def __getattr__(self, name: str) -> Any:
        return nothing


def nothing(*arguments: Any, **named: Any) -> None:
    del arguments, named


class Nowhere:
    """A source of legs that keeps nothing (an executor's TrialSource)."""

    def __init__(self, num_trials: int) -> None:
        self.left = num_trials
        config = TrialConfig().model_dump_json()
        self.leg = Assignment(0, config, "", "", "", 1, "cpu", "", 1.0)

    def next_trial(self) -> Any:
        self.left -= 1
        return self.leg if self.left >= 0 else "end"

    def on_report(self, report: dict[str, Any]) -> bool:
        return bool(report["done"])

    def should_stop(self) -> bool:
        return False

    on_return = on_death = on_tick = say = staticmethod(nothing)


def driver_of(
    space: SearchSpace,
    store: Store,
    storage: BaseStorage,
    tracker: Tracker | Unrecorded,
    progress: Progress,
    num_slots: int,
) -> Driver:
    """Return the driver of a new study, as a search makes it."""
    from sqtune.data.split import write_prepared

    for path, splits in prepare_data(space, store).items():
        write_prepared(splits, path)
    study = Study.create_or_continue(
        storage, space, provenance(), footprint=footprints(space, store)
    )
    limits = Limits(space.search, 0.0, 0.0, lambda: store.is_stop_requested(space.name))
    courses = Courses(space, store, stage_store(space, store), study.attrs["uuid"])
    return Driver(study, tracker, progress, store, limits, courses, num_slots=num_slots)  # type: ignore[arg-type]

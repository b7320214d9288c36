"""What Ray makes of legs, with real workers that train nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

import pytest
import ray

from sqtune.config.options import Resources
from sqtune.errors import ResourceError
from sqtune.search import executor
from sqtune.search.executor import TrialActor, local_ray, run_trials
from sqtune.search.mishaps import Death
from sqtune.search.worker import Assignment

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def dying(died: Path) -> type[TrialActor]:
    """Return a worker that dies on its way to trial 1, to which it is lent after another; once."""

    class Dying(TrialActor):  # defined here, so that its code travels to the worker
        def setup(self, config: dict[str, Any]) -> None:
            self._number = config["number"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            if self._number == 1 and not died.exists():
                died.touch()
                os._exit(1)
            return True

        def step(self) -> dict[str, Any]:
            return {"number": self._number}

        def cleanup(self) -> None: ...

    return Dying


def napping() -> type[TrialActor]:
    """Return a worker that says which process it is and what Ray gave it, then naps."""

    class Napping(TrialActor):  # defined here, likewise
        def setup(self, config: dict[str, Any]) -> None:
            self._number = config["number"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(0.5)
            gpus = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
            return {"number": self._number, "gpus": gpus, "process": os.getpid()}

        def cleanup(self) -> None: ...

    return Napping


class Legs:
    """A source of legs (an executor's TrialSource); one whose worker died comes again.

    Args:
        gpus: What each leg gets.
    """

    def __init__(self, *gpus: float) -> None:
        self.gpus, self.left = gpus, list(range(len(gpus)))
        self.reported, self.deaths = list[int](), list[int]()
        self.reports, self.why = list[dict[str, Any]](), list[str]()

    def next_trial(self) -> Assignment | Literal["wait", "end"]:
        if self.left:
            number = self.left.pop(0)
            return Assignment(number, "", "", "", "", 1, "cpu", "", 1.0, gpus=self.gpus[number])
        return "end" if len(self.reported) == len(self.gpus) else "wait"

    def on_report(self, report: dict[str, Any]) -> bool:
        self.reported.append(report["number"])
        self.reports.append(report)
        return True

    def on_death(self, number: int, death: Death) -> None:
        self.deaths.append(number)
        self.why.append(death.cause)
        assert self.deaths.count(number) < 3
        self.left.append(number)

    def on_return(self, number: int) -> None:
        raise AssertionError("no leg was ended in between")

    def say(self, text: str) -> None:
        raise AssertionError(text)

    def on_tick(self) -> None: ...

    def should_stop(self) -> bool:
        return "memory" in self.why


def test_a_worker_that_dies_on_its_way_to_a_trial_is_told_as_one_death(tmp_path):
    legs, worker = Legs(0, 0, 0), dying(tmp_path / "died")
    with local_ray(1, 0):
        run_trials(legs, Resources(), num_slots=1, folder=tmp_path / "ray", trainable=worker)
    assert (legs.deaths, legs.why) == ([1], ["worker"])
    assert sorted(legs.reported) == [0, 1, 2]


def test_a_wave_is_long_enough_for_the_slots_that_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "LEGS_IN_WAVE", 1)
    monkeypatch.setattr(executor, "LEGS_PER_SLOT", 2)
    legs = Legs(0, 0, 0, 0)
    with local_ray(1, 0):
        run_trials(legs, Resources(), num_slots=1, folder=tmp_path / "ray", trainable=napping())
    first, second, third, fourth = (report["process"] for report in legs.reports)
    assert first == second != third == fourth


def test_legs_get_the_gpus_that_each_asks_for_and_processes_only_of_equals(tmp_path):
    legs = Legs(0.5, 0.5, 1.0, 0.25, 0.5)
    with local_ray(2, 1):  # Ray takes our word for the GPU
        folder = tmp_path / "ray"
        run_trials(legs, Resources(), num_slots=2, folder=folder, trainable=napping())
    got = {report["number"]: report for report in legs.reports}
    assert [got[number]["gpus"] for number in range(5)] == [0.5, 0.5, 1.0, 0.25, 0.5]
    by_process: dict[int, set[float]] = {}
    for report in legs.reports:
        by_process.setdefault(report["process"], set()).add(report["gpus"])
    assert all(len(gpus) == 1 for gpus in by_process.values())


def test_a_worker_that_ray_ends_for_its_memory_ends_its_leg_and_not_the_search(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # every node is above that
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    legs = Legs(0)
    with local_ray(1, 0):
        folder = tmp_path / "ray"
        run_trials(legs, Resources(), num_slots=1, folder=folder, trainable=napping())
    assert legs.why == ["memory"]


def test_a_ray_that_does_not_start_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file" / "folder"))
    with pytest.raises(ResourceError, match="does not start on this machine"), local_ray(1, 0):
        pass

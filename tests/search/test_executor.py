"""What Ray makes of legs, with real workers that train nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest

from sqtune.config.options import Resources
from sqtune.search import executor
from sqtune.search.executor import TrialActor, local_ray, run_trials
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


def telling() -> type[TrialActor]:
    """Return a worker that says which process it is."""

    class Telling(TrialActor):
        def setup(self, config: dict[str, Any]) -> None:
            self._number = config["number"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            return {"number": self._number, "process": os.getpid()}

        def cleanup(self) -> None: ...

    return Telling


class Legs:
    """A source of some legs (an executor's TrialSource); one whose worker died comes again."""

    def __init__(self, num_legs: int = 3) -> None:
        self.num_legs, self.left = num_legs, list(range(num_legs))
        self.reported, self.processes, self.deaths = list[int](), list[int](), list[int]()

    def next_trial(self) -> Assignment | Literal["wait", "end"]:
        if self.left:
            return Assignment(self.left.pop(0), "", "", "", "", 1, "cpu", "", 1.0)
        return "end" if len(self.reported) == self.num_legs else "wait"

    def on_report(self, report: dict[str, Any]) -> bool:
        self.reported.append(report["number"])
        self.processes.append(report.get("process", 0))
        return True

    def on_death(self, number: int) -> None:
        self.deaths.append(number)
        assert self.deaths.count(number) < 3
        self.left.append(number)

    def on_return(self, number: int) -> None:
        raise AssertionError("no leg was ended in between")

    def on_tick(self) -> None: ...

    def should_stop(self) -> bool:
        return False


def test_a_worker_that_dies_on_its_way_to_a_trial_is_told_as_one_death(tmp_path):
    legs, worker = Legs(), dying(tmp_path / "died")
    with local_ray(1, 0):
        run_trials(legs, Resources(), num_slots=1, folder=tmp_path / "ray", trainable=worker)
    assert legs.deaths == [1]
    assert sorted(legs.reported) == [0, 1, 2]


def test_a_wave_is_long_enough_for_the_slots_that_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "LEGS_IN_WAVE", 1)
    monkeypatch.setattr(executor, "LEGS_PER_SLOT", 2)
    legs = Legs(4)
    with local_ray(1, 0):
        run_trials(legs, Resources(), num_slots=1, folder=tmp_path / "ray", trainable=telling())
    first, second, third, fourth = legs.processes
    assert first == second != third == fourth

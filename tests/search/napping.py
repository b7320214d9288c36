"""Legs that nap until a file exists, on a cluster; prints a JSON line for all that is told of them.

python napping.py ADDRESS NUM_LEGS FILE RESOURCES     RESOURCES as JSON
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from sqtune.config.options import Resources
from sqtune.search import placing
from sqtune.search.mishaps import Death
from sqtune.search.nodes import count_slots, joined

import ray  # isort: skip  (sqtune sets what it reads)

from sqtune.search.executor import TrialActor, run_trials  # isort: skip
from sqtune.search.worker import Assignment  # isort: skip

ADDRESS, NUM_LEGS, WAKE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
RESOURCES = Resources.model_validate_json(sys.argv[4])


def tell(**event: Any) -> None:
    print(json.dumps(event), flush=True)


class Napping(TrialActor):
    """Reports where it is, then naps."""

    def setup(self, config: dict[str, Any]) -> None:
        self._number, self._wake, self._told = config["number"], Path(WAKE), False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        while self._told and not self._wake.exists():
            time.sleep(0.1)
        done, self._told = self._told, True
        node = ray.get_runtime_context().get_node_id()
        return {"number": self._number, "ends": done, "node": node, "process": os.getpid()}

    def cleanup(self) -> None: ...


class Legs:
    """A source of legs (an executor's TrialSource); one whose worker died comes again."""

    def __init__(self) -> None:
        self.left, self.ended = list(range(NUM_LEGS)), 0

    def next_trial(self) -> Assignment | Literal["wait", "end"]:
        if self.left:
            gpus = RESOURCES.known_gpus
            return Assignment(self.left.pop(0), "", "", "", "", 1, "cpu", "", 1.0, gpus=gpus)
        return "end" if self.ended == NUM_LEGS else "wait"

    def on_report(self, report: dict[str, Any]) -> bool:
        tell(**{key: report[key] for key in ("number", "ends", "node", "process")})
        self.ended += report["ends"]
        return bool(report["ends"])

    def on_death(self, number: int, death: Death) -> None:
        tell(death=death.cause, number=number, why=death.why)
        self.left.append(number)

    def say(self, text: str) -> None:
        tell(said=text)

    def on_return(self, number: int) -> None:
        raise AssertionError(f"leg {number} was ended in between")

    def on_tick(self) -> None: ...

    def should_stop(self) -> bool:
        return False


if __name__ == "__main__":
    placing.COUNT_SECONDS = placing.PATIENCE_SECONDS = 1.0
    with joined(ADDRESS), tempfile.TemporaryDirectory() as folder:
        run_trials(
            Legs(),
            RESOURCES,
            num_slots=lambda: max(1, count_slots(RESOURCES)),
            folder=Path(folder) / "ray",
            trainable=Napping,
        )

"""What a trial's log says, for people: `sqtune logs` prints it as it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqtune.config.yaml_file import as_yaml
from sqtune.search.wording import percent

BEGINNING = "on process "  # of what the log says of a leg
SHARES = ("val_error", "val_error_hybrid")
_ENDINGS = {
    "failure": "failed: ",
    "busy": "given back: ",
    "unwritable": "given back, as something cannot be written: ",
}


def beginning(process: int, config: str) -> str:
    """Return what a leg begins with: the process and the trial's configuration (JSON) as YAML."""
    lines = as_yaml(json.loads(config)).splitlines()
    return "\n    ".join([f"{BEGINNING}{process}", *lines])


def epoch_text(epoch: Mapping[str, float]) -> str:
    """Return an epoch's figures on a line, errors in percent.

    >>> epoch_text({"epoch": 2.0, "val_error": 0.125, "lr": 0.1})
    'epoch 2  val_error 12.50 %  lr 0.1'
    """
    return "  ".join(
        f"{key} {percent(value)} %" if key in SHARES else f"{key} {value:.4g}"
        for key, value in epoch.items()
    )


def ending(report: Mapping[str, Any]) -> str | None:
    """Return how a leg ended; None where it goes on, or ended at a rung.

    >>> ending({"facts": {"started_at": 100.0, "ended_at": 109.87}})
    'finished after 9.9 s on this process'
    >>> ending({"busy": "stage ab is being trained by study:0"})
    'given back: stage ab is being trained by study:0'
    """
    if "facts" in report:
        facts = report["facts"]
        text = f"finished after {facts['ended_at'] - facts['started_at']:.1f} s on this process"
        problem = facts.get("stage_problem")
        return text if problem is None else f"{text}; not every stage was stored: {problem}"
    if "out_of_memory" in report:
        return f"out of GPU memory: {report['out_of_memory']['why']}"
    return next((f"{how}{report[kind]}" for kind, how in _ENDINGS.items() if kind in report), None)

"""How a trial's MLflow run ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sqtune.quant import Ternary
from sqtune.search.record import recorded_end
from sqtune.store import Store

from .test_tables import MIXED, ended

TIMES = {"started_at": 1.0, "ended_at": 3.5, "node": "here"}


@pytest.mark.parametrize(
    ("trial", "bits"),
    [
        (ended(weight_bits=2.25, **MIXED), 2.25),
        (ended(weight_bits=1.0), 1.0),
        (ended(quantizer=Ternary()), 2.0),  # a study from before the fact
    ],
)
def test_the_metric_bits_is_the_average_of_the_weights(tmp_path, trial, bits):
    trial.facts.update(TIMES)
    trial = replace(trial, epochs=tuple({**epoch, "seconds": 2.5} for epoch in trial.epochs))
    end = recorded_end(trial, Store.at(tmp_path), "study")
    assert end["metrics"] == {"bits": bits, "size_bytes": 2048.0, "seconds": 2.5}
    stopped = recorded_end(replace(trial, state="stopped"), Store.at(tmp_path), "study")
    assert stopped["metrics"] == end["metrics"]
    note = {"mlflow.note.content": "trial 0 stopped 1/12: stopped"}
    assert stopped["status"] == "KILLED"
    assert stopped["tags"] == {"sqtune.state": "stopped", **note}

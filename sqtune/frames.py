"""Trials as a table of pandas."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from sqtune.search.records import TrialRecord
from sqtune.search.tables import as_data

FLOATS = ("val_error", "val_error_standard_error", "test_error", "bits", "seconds")
RESULTS = (
    *("state", "val_error", "val_error_standard_error", "test_error", "size_bytes", "bits"),
    *("ram_bytes", "macs", "bit_operations", "on_front", "epochs", "epochs_trained", "seconds"),
)
FATE = ("duplicate_of", "failure", "why", "run_id")


def trials_table(trials: Sequence[TrialRecord], on_front: Collection[int]) -> pd.DataFrame:
    """Return one row a trial: results, then what was searched, then what befell it."""
    rows = [
        as_data(trial)
        | {
            "on_front": trial.number in on_front,
            "epochs": len(trial.epochs),
            "seconds": trial.seconds,
        }
        for trial in trials
    ]
    searched = dict.fromkeys(path for trial in trials for path in trial.values)
    columns = {name: [row[name] for row in rows] for name in RESULTS}
    columns |= {path: [trial.values.get(path) for trial in trials] for path in searched}
    columns |= {name: [row[name] for row in rows] for name in FATE}
    index = pd.Index([trial.number for trial in trials], name="number", dtype="int64")
    table = {name: _column(values).set_axis(index) for name, values in columns.items()}
    return pd.DataFrame(table, index).astype(dict.fromkeys(FLOATS, "float64"))


def _column(values: Sequence[Any]) -> pd.Series[Any]:
    """Return a column in which whole numbers stay whole where some are missing."""
    column = pd.Series(values, dtype="object").convert_dtypes()
    return column.astype("float64") if column.dtype == "Float64" else column

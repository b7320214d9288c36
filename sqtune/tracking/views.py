"""Views of a study in MLflow's own interface, as its 3.17 stores those that people share.

A view is a tag of the experiment: what is filtered, in which order, which columns, which charts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqtune.tracking.runs import FRONT_TAG, TRIAL_TAG

KIND_TAG, VIEW_TAG = "mlflow.experimentKind", "mlflow.sharedViewState."
FRONT, TRIALS = "sqtune-front", "sqtune-trials"
COLUMNS = ("val_error", "size_bytes", "bits")
LINES = (
    *("val_error", "train_loss", "ratio", "val_error_hybrid", "quantization_error"),
    *("changed_rows", "lr", "images_per_second"),
)
BARS = ("size_bytes", "bits", "seconds")
MOST_SEARCHED = 12  # columns of searched values
SECTION = {"name": "Model metrics", "display": True, "isReordered": False, "deleted": False}


def experiment_tags(searched: Sequence[str]) -> dict[str, str]:
    """Return the tags of a study's experiment: that it is one of training, and its views.

    Args:
        searched: Parameters that differ between trials.
    """
    columns = [f"metrics.`{name}`" for name in COLUMNS]
    columns += [f"params.`{name}`" for name in searched[:MOST_SEARCHED]]
    alike = {
        "orderByKey": "metrics.`val_error`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "compareRunSections": [{**SECTION, "uuid": "sqtune", "isGenerated": False}],
        "compareRunCharts": _charts(),
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    views = {
        FRONT: {"searchFilter": f"tags.`{FRONT_TAG}` = 'true'", **alike},
        TRIALS: {"searchFilter": f"tags.`{TRIAL_TAG}` LIKE '%'", **alike},  # not the study's run
    }
    tags = {f"{VIEW_TAG}{name}": json.dumps(view) for name, view in views.items()}
    return {KIND_TAG: "custom_model_development", **tags}


def _charts() -> list[dict[str, Any]]:
    """Return error against size, the course of the training by epoch, and what a trial has once.

    MLflow puts charts of its own before the others for metrics that have none here.
    """
    scatter: dict[str, Any] = {
        "type": "SCATTER",
        "xaxis": {"key": "size_bytes", "type": "METRIC"},
        "yaxis": {"key": "val_error", "type": "METRIC"},
    }
    lines: list[dict[str, Any]] = [
        {
            "type": "LINE",
            "metricKey": name,
            "displayName": name,
            "xAxisKey": "step",  # the epoch
            "lineSmoothness": 0,
            "scaleType": "linear",
            "xAxisScaleType": "linear",
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        }
        for name in LINES
    ]
    bars: list[dict[str, Any]] = [
        {"type": "BAR", "metricKey": name, "displayName": name} for name in BARS
    ]
    own = {"metricSectionId": "sqtune", "deleted": False, "isGenerated": False}
    return [
        {"uuid": f"sqtune-{place}", "runsCountToCompare": 100, **own, **chart}
        for place, chart in enumerate([scatter, *lines, *bars])
    ]

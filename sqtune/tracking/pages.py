"""Addresses of MLflow's own pages, as its interface of 3.17 reads them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from sqtune.tracking.views import FRONT, TRIALS

TRAINING = "workflowType=machine_learning"  # not MLflow's pages for language models


def run_page(experiment_id: str, run_id: str) -> str:
    """Return a run's page; behind a server's address, or as a link on one of its pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def study_page(experiment_id: str) -> str:
    """Return the page of a study: its run, with those of its trials below it; likewise."""
    return f"#/experiments/{experiment_id}/runs?{TRAINING}"


def front_page(experiment_id: str) -> str:
    """Return the page of the runs of the front alone, the smallest error first; likewise."""
    return f"{study_page(experiment_id)}&viewStateShareKey={FRONT}"


def trials_page(experiment_id: str) -> str:
    """Return the page of all trials as a table, the smallest error first; likewise."""
    return f"{study_page(experiment_id)}&viewStateShareKey={TRIALS}"


def charts_page(experiment_id: str) -> str:
    """Return the page of charts that compare the trials; likewise."""
    return f"{trials_page(experiment_id)}&compareRunsMode=CHART"


def on_server(uri: str, page: str) -> str | None:
    """Return a page's address; None where a tracking URI names no server. Passwords are left out.

    >>> on_server("http://me:secret@host:5000/", "#/experiments/1/runs/ab")
    'http://host:5000/#/experiments/1/runs/ab'
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/{page}"


def past_proxies(asked: str | urllib.request.Request, timeout_seconds: float) -> Any:
    """Return the answer of a server on this machine, which no proxy has to reach.

    Raises:
        OSError: There is none.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(asked, timeout=timeout_seconds)


def latest_study(url: str) -> tuple[str, str] | None:
    """Ask a server on this machine for the study that it heard of last.

    Args:
        url: The server's address.

    Returns:
        The study's name and its experiment; None where there is no study.
    """
    asked = {"max_results": 2, "order_by": ["last_update_time DESC"]}
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/experiments/search",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with past_proxies(request, 30) as answer:
        experiments = json.load(answer).get("experiments", ())
    for found in experiments:
        if found["name"] != "Default":  # MLflow's own, which is empty
            return found["name"], found["experiment_id"]
    return None

"""MLflow without its chatter, and quick to give up."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sqtune.tracking.runs import RETRIES

QUIET = {  # MLflow's own chatter and patience; a variable that is set already is left alone
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    RETRIES: "0",  # worker.py asks again, and looks first where asking twice would double a run
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


def quiet_environment() -> None:
    """Turn MLflow's telemetry and own retries off, unless the environment says otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"  # a locked database is asked again
        logging.getLogger("alembic").setLevel(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """Have MLflow quiet and quick to give up; put the environment back at the end."""
    names = (*QUIET, "MLFLOW_LOGGING_LEVEL")
    before = {name: os.environ.get(name) for name in names}
    quiet_environment()
    try:
        with warnings.catch_warnings():
            # of its own type hints, when it is imported
            warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\.")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

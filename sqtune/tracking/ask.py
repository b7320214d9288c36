"""Whether a tracking server answers, before anything is recorded there."""

from __future__ import annotations

from sqtune.errors import TrackingError
from sqtune.settings import without_password
from sqtune.tracking.quiet import quiet_environment
from sqtune.tracking.worker import first_line

MOST = 1000  # experiments to ask for


def ask(uri: str) -> str:
    """Return how many experiments a tracking server has, in words.

    Raises:
        TrackingError: It does not answer, or does not let us in.
    """
    quiet_environment()
    from mlflow import MlflowClient

    try:
        found = MlflowClient(tracking_uri=uri).search_experiments(max_results=MOST)
    except Exception as error:  # whatever MLflow, SQLAlchemy or a socket raises
        raise TrackingError(
            f"--tracking-uri {without_password(uri)} does not answer: {first_line(error)}. Start "
            "it, give another one, leave it out for the embedded one, or search with --offline."
        ) from error
    return f"{len(found)}{' or more' if len(found) == MOST else ''} experiments"

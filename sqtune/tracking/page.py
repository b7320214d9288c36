"""A study's page as a file of its MLflow run, also once the search has ended."""

from __future__ import annotations

from sqtune.errors import TrackingError
from sqtune.settings import without_password
from sqtune.tracking.database import database_of
from sqtune.tracking.quiet import quiet
from sqtune.tracking.runs import TRIAL_TAG, Runs
from sqtune.tracking.worker import first_line

PAGE = "report/report.html"
ONLY_STUDIES = "tags.`sqtune.space_hash` LIKE '%'"  # trials have no such tag


def log_page(uri: str, study: str, uuid: str, text: str) -> str | None:
    """Write a page to a study's run.

    Args:
        uri: MLflow's tracking URI.
        study: The study's name.
        uuid: The study's identity.
        text: The page.

    Returns:
        The run's id; None where MLflow knows nothing of the study.

    Raises:
        TrackingError: MLflow does not answer, or does not take it.
    """
    database = database_of(uri)
    if database is not None and not database.is_file():
        return None  # MLflow would make a database, which takes seconds
    with quiet():
        from mlflow import MlflowClient

        try:
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(study)
            if experiment is None:
                return None
            runs = Runs(client, experiment.experiment_id, study, uuid).search(ONLY_STUDIES)
            own = [run.info.run_id for run in runs if TRIAL_TAG not in run.data.tags]
            if not own:
                return None
            client.log_text(own[0], text, PAGE)
        except Exception as error:  # whatever MLflow, SQLAlchemy or a socket raises
            raise TrackingError(
                f"MLflow does not have the page: {without_password(uri)}: {first_line(error)}. The "
                "file is complete; the same command with --force logs it again."
            ) from error
    run_id: str = own[0]
    return run_id

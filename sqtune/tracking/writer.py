"""What is written to MLflow, call by call; the thread of `Tracker` calls it in order."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mlflow import MlflowClient

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

STUDY_TAG, TRIAL_TAG, BEST_TAG = "sqtune.study_uuid", "sqtune.trial", "sqtune.best"
METRICS_PER_REQUEST, PARAMS_PER_REQUEST = 1000, 100  # MLflow's limits
FLUSH_SECONDS = 2.0
SQLITE = "sqlite:///"
QUIET = {  # MLflow's own chatter; a variable that is set already is left alone
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


def quiet_environment() -> None:
    """Turn MLflow's telemetry and long retries off, unless the environment says otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
        logging.getLogger("alembic").setLevel(logging.ERROR)


class Writer:
    """Writes one study's runs. Every method waits for the tracking store.

    Args:
        uri: MLflow's tracking URI.
        artifacts: Folder for the artifacts where the store is embedded, otherwise None.
        study: The study's name, which is also the experiment's.
    """

    def __init__(self, uri: str, artifacts: Path | None, study: str) -> None:
        self._uri, self._artifacts, self._study = uri, artifacts, study
        self._study_uuid = ""
        self._client: MlflowClient
        self._experiment_id = self._parent_id = ""
        self._runs: dict[int, str] = {}  # trial number -> run id
        self._statuses: dict[int, str] = {}
        self._pending: dict[int, list[Mapping[str, float]]] = {}
        self._flushed_at: dict[int, float] = {}

    def connect(self) -> None:
        """Reach the tracking store and open the study's experiment, or create it."""
        quiet_environment()
        from mlflow import MlflowClient

        if self._uri.startswith(SQLITE):
            _create_database(Path(self._uri.removeprefix(SQLITE)))
        self._client = MlflowClient(tracking_uri=self._uri)
        experiment = self._client.get_experiment_by_name(self._study)
        if experiment is None:
            location = self._artifacts.as_uri() if self._artifacts else None
            self._experiment_id = self._client.create_experiment(self._study, location)
            return
        self._experiment_id = experiment.experiment_id
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(self._experiment_id)

    def _search(self, condition: str) -> list[Any]:
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], condition, max_results=1000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def start_study(
        self,
        uuid: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        texts: Mapping[str, str],
    ) -> None:
        """Create the study's run, or open the one there is; write tags, parameters and files."""
        self._study_uuid = uuid
        found = self._search(f"tags.`{STUDY_TAG}` = '{self._study_uuid}'")
        parents = [run for run in found if TRIAL_TAG not in run.data.tags]
        for run in found:
            if TRIAL_TAG in run.data.tags:
                number = int(run.data.tags[TRIAL_TAG])
                self._runs[number] = run.info.run_id
                self._statuses[number] = run.info.status
        if parents:
            self._parent_id = parents[0].info.run_id
            self._client.update_run(self._parent_id, status="RUNNING")
        else:
            run = self._client.create_run(
                self._experiment_id, tags={STUDY_TAG: self._study_uuid}, run_name=self._study
            )
            self._parent_id = run.info.run_id
        self._set_tags(self._parent_id, tags)
        known = self._client.get_run(self._parent_id).data.params
        self._log_params(self._parent_id, {k: v for k, v in params.items() if k not in known})
        for name, text in texts.items():
            self._client.log_text(self._parent_id, text, name)

    def start_trial(self, number: int, params: Mapping[str, Any]) -> str:
        """Create a trial's run, or open the one there is; return its id."""
        if number in self._runs:
            self._client.update_run(self._runs[number], status="RUNNING")
        else:
            tags = {
                STUDY_TAG: self._study_uuid,
                TRIAL_TAG: str(number),
                "mlflow.parentRunId": self._parent_id,
            }
            name = f"{self._study}-{number:04d}"
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=name)
            self._runs[number] = run.info.run_id
        self._statuses[number] = "RUNNING"
        self._log_params(self._runs[number], params)
        return self._runs[number]

    def log_epoch(self, number: int, record: Mapping[str, float]) -> None:
        """Take an epoch's metrics; they are sent together with others."""
        self._pending.setdefault(number, []).append(record)
        self._flushed_at.setdefault(number, time.monotonic())

    def flush_old(self) -> None:
        """Send the epochs that have waited long enough."""
        now = time.monotonic()
        for number in list(self._pending):
            if now - self._flushed_at[number] >= FLUSH_SECONDS:
                self._flush(number)

    def _flush(self, number: int) -> None:
        from mlflow.entities import Metric

        records = self._pending.pop(number, [])
        self._flushed_at.pop(number, None)
        metrics = [
            Metric(key, value, int(record["time"]), int(record["epoch"]))
            for record in records
            for key, value in record.items()
            if key not in ("time", "epoch")
        ]
        for first in range(0, len(metrics), METRICS_PER_REQUEST):
            batch = metrics[first : first + METRICS_PER_REQUEST]
            self._client.log_batch(self._runs[number], metrics=batch)

    def end_trial(
        self,
        number: int,
        status: RunStatus,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Sequence[Path],
    ) -> None:
        """End a trial's run with its last metrics, tags and files."""
        if number not in self._runs:
            return
        self._flush(number)
        self._log_metrics(self._runs[number], metrics)
        self._set_tags(self._runs[number], tags)
        self._log_files(self._runs[number], files)
        self._client.set_terminated(self._runs[number], status)
        self._statuses[number] = status

    def is_recorded(self, number: int) -> bool:
        """Tell whether a trial's run has ended, with all there is of it."""
        return self._statuses.get(number) in ("FINISHED", "FAILED")

    def choose(self, number: int, files: Sequence[Path], tags: Mapping[str, str]) -> None:
        """Mark a trial's run as the study's best and add its files, unless that is done."""
        chosen = self._search(
            f"tags.`{STUDY_TAG}` = '{self._study_uuid}' and tags.`{BEST_TAG}` = 'true'"
        )
        run_id = self._runs[number]
        for run in chosen:
            if run.info.run_id != run_id:
                self._set_tags(run.info.run_id, {BEST_TAG: "false"})
        if run_id not in [run.info.run_id for run in chosen]:
            self._log_files(run_id, files)
            self._set_tags(run_id, {**tags, BEST_TAG: "true"})

    def end_study(self, status: RunStatus, metrics: Mapping[str, float]) -> None:
        """End the study's run with its summary."""
        self._log_metrics(self._parent_id, metrics)
        self._client.set_terminated(self._parent_id, status)

    def _log_files(self, run_id: str, files: Sequence[Path]) -> None:
        for file in files:
            self._client.log_artifact(run_id, str(file), "network")

    def _log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(key, float(value), now, 0) for key, value in metrics.items()]
        if batch:
            self._client.log_batch(run_id, metrics=batch)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        batch = [Param(key, str(value)) for key, value in params.items()]
        for first in range(0, len(batch), PARAMS_PER_REQUEST):
            self._client.log_batch(run_id, params=batch[first : first + PARAMS_PER_REQUEST])

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            batch = [RunTag(key, value) for key, value in tags.items()]
            self._client.log_batch(run_id, tags=batch)


def _create_database(path: Path) -> None:
    """Make MLflow's tables, unless they are there, as a whole or not at all.

    Making them takes seconds, and a driver killed meanwhile would leave a file that MLflow can
    neither use nor mend.
    """
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    MlflowClient(tracking_uri=f"{SQLITE}{partial}").search_experiments(max_results=1)
    with closing(sqlite3.connect(partial)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    partial.replace(path)

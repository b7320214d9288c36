"""What is written to MLflow, call by call; a method that failed may be called again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqtune.errors import TrackingError
from sqtune.settings import without_password
from sqtune.tracking.database import create_database, database_of, follow_move
from sqtune.tracking.pages import charts_page, front_page, on_server, run_page
from sqtune.tracking.quiet import quiet_environment
from sqtune.tracking.runs import (
    BEST_TAG,
    FRONT_TAG,
    NOTE_TAG,
    STATE_TAG,
    STOPPED,
    Run,
    Runs,
)
from sqtune.tracking.views import experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

METRICS_PER_REQUEST, PARAMS_PER_REQUEST = 1000, 100  # MLflow's limits


class Writer:
    """Writes one study's runs. Every method waits for the tracking store.

    Whatever a method writes has its time from its arguments, so that MLflow takes what it is told
    twice for the same.

    Args:
        uri: MLflow's tracking URI.
        artifacts: Folder for the artifacts where the store is embedded, otherwise None.
        study: The study's name, which is also the experiment's.
        on_run: Told a trial's number and run id when its run is opened.
        fetch: Makes a file be here that another machine wrote.
        recorded: The identity of a study that is recorded already, to add to its runs as they are;
            None opens them, or makes them, as a study that is driven does.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Path | None,
        study: str,
        on_run: Callable[[int, str], object],
        fetch: Callable[[Path], object] = Path.exists,
        recorded: str | None = None,
    ) -> None:
        self._uri, self._artifacts, self._study, self._on_run = uri, artifacts, study, on_run
        self._fetch, self._recorded = fetch, recorded
        self._client: MlflowClient
        self._runs: Runs
        self._experiment_id = ""
        self._last_ms: dict[int, int] = {}  # time of a trial's last epoch

    @property
    def front_page(self) -> str | None:
        """Address of the front's runs; None where no server has them."""
        return (
            on_server(self._uri, front_page(self._experiment_id)) if self._experiment_id else None
        )

    def connect(self) -> None:
        """Reach the tracking store and open the study's experiment, or create it.

        Raises:
            TrackingError: The study was to be recorded there already, and is not.
        """
        quiet_environment()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        database = database_of(self._uri)
        if self._recorded is not None and database is not None and not database.exists():
            raise self._not_recorded()
        if database is not None:
            create_database(database)
            if self._artifacts is not None:
                self._artifacts.mkdir(parents=True, exist_ok=True)
                follow_move(database, self._artifacts)
        self._client = MlflowClient(tracking_uri=self._uri)
        if self._recorded is not None:
            self._find_study(self._recorded)
        elif not self._open_experiment():
            location = self._artifacts.as_uri() if self._artifacts else None
            try:
                self._experiment_id = self._client.create_experiment(self._study, location)
            except MlflowException:
                if not self._open_experiment():  # another search may have created it meanwhile
                    raise

    def answers(self) -> bool:
        """Tell whether the tracking store answers a question."""
        try:
            self._client.get_experiment(self._experiment_id)
        except Exception:  # whatever MLflow, SQLAlchemy or a socket raises
            return False
        return True

    def start_study(
        self,
        uuid: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        time_ms: int,
        searched: Sequence[str] = (),
    ) -> None:
        """Create the study's run, or open the one there is; write tags and parameters."""
        for key, value in experiment_tags(searched).items():
            self._client.set_experiment_tag(self._experiment_id, key, value)
        self._runs = Runs(self._client, self._experiment_id, self._study, uuid)
        self._runs.load()
        parent = self._runs.open(None, {}, time_ms)
        self._set_tags(parent, tags)
        known = self._client.get_run(parent.id).data.params
        self._log_params(parent, {k: v for k, v in params.items() if k not in known})

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Write files of the study's run."""
        for name, text in texts.items():
            self._client.log_text(self._run(None).id, text, name)

    def start_trial(self, number: int, params: Mapping[str, str], time_ms: int) -> None:
        """Create a trial's run, or open the one there is; write its parameters."""
        tags = {"mlflow.parentRunId": self._run(None).id, FRONT_TAG: "false"}
        run = self._runs.open(number, tags, time_ms)
        self._log_params(run, params)
        self._on_run(number, run.id)

    def log_epochs(self, number: int, records: Sequence[Mapping[str, float]]) -> None:
        """Write epochs' metrics."""
        from mlflow.entities import Metric

        run_id = self._run(number).id
        metrics = [
            Metric(key, value, int(record["time"]), int(record["epoch"]))
            for record in records
            for key, value in record.items()
            if key not in ("time", "epoch")
        ]
        for first in range(0, len(metrics), METRICS_PER_REQUEST):
            self._client.log_batch(run_id, metrics=metrics[first : first + METRICS_PER_REQUEST])
        for record in records:
            self._last_ms[number] = max(self._last_ms.get(number, 0), int(record["time"]))

    def end_trial(
        self,
        number: int,
        status: RunStatus,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Sequence[str],
        time_ms: int,
    ) -> None:
        """End a trial's run with its last metrics, tags and files; they have its last epoch's time.

        A trial that has no run is left alone.
        """
        if self._runs.get(number) is None:
            return
        self._runs.sweep(number)
        run = self._run(number)
        time_ms = self._last_ms.get(number, time_ms)
        self._log_metrics(run, metrics, time_ms)
        self._set_tags(run, tags)
        self._log_files(run, files)
        self._client.set_terminated(run.id, status, end_time=time_ms)
        run.status, run.stopped = status, tags.get(STATE_TAG) == STOPPED

    def record_ended_trial(
        self,
        number: int,
        params: Mapping[str, str],
        epochs: Sequence[Mapping[str, float]],
        **end: Any,
    ) -> None:
        """Write a trial from start to end, unless its run has ended with all there is of it."""
        run = self._runs.get(number)
        if run is not None and run.ended:
            return
        times = [int(epoch["time"]) for epoch in epochs]
        self.start_trial(number, params, min(times, default=end["time_ms"]))
        self.log_epochs(number, epochs)
        self.end_trial(number, **end)

    def choose(self, number: int, files: Sequence[str], tags: Mapping[str, str]) -> None:
        """Mark a trial's run as the study's best and add its files, unless that is done."""
        run = self._run(number)
        chosen = [found.info.run_id for found in self._runs.search(f"tags.`{BEST_TAG}` = 'true'")]
        for run_id in chosen:
            if run_id != run.id:
                self._client.set_tag(run_id, BEST_TAG, "false")
        if run.id not in chosen:
            self._log_files(run, files)
            self._set_tags(run, {**tags, BEST_TAG: "true"})

    def tag_front(self, numbers: Collection[int]) -> None:
        """Mark the runs of these trials as the front; one call for each run that changes."""
        for number, run in self._runs.trials().items():
            front = number in numbers
            if run.front != front:
                self._client.set_tag(run.id, FRONT_TAG, "true" if front else "false")
                run.front = front

    def describe(self, text: str) -> None:
        """Put a text on the pages of the experiment and of the study's run, its links resolved."""
        experiment = self._experiment_id
        pages = {"front": front_page(experiment), "charts": charts_page(experiment)}
        for number, run in self._runs.trials().items():
            pages[f"trial:{number}"] = run_page(experiment, run.id)
        linked = re.sub(
            r"\]\((trial:\d+|front|charts)\)", lambda link: f"]({pages.get(link[1], '#')})", text
        )
        self._client.set_experiment_tag(experiment, NOTE_TAG, linked)
        self._client.set_tag(self._run(None).id, NOTE_TAG, linked)

    def end_study(self, status: RunStatus, metrics: Mapping[str, float], time_ms: int) -> None:
        """End the study's run with its summary."""
        self._runs.sweep(None)
        run = self._run(None)
        self._log_metrics(run, metrics, time_ms)
        self._client.set_terminated(run.id, status, end_time=time_ms)
        run.status = status

    def _find_study(self, uuid: str) -> None:
        if not self._open_experiment():
            raise self._not_recorded()
        self._runs = Runs(self._client, self._experiment_id, self._study, uuid)
        self._runs.load()
        if self._runs.get(None) is None:
            raise self._not_recorded()

    def _not_recorded(self) -> TrackingError:
        place = without_password(self._uri)
        return TrackingError(
            f'the study "{self._study}" is not recorded on {place}. Give the --tracking-uri that '
            "it was searched with."
        )

    def _open_experiment(self) -> bool:
        experiment = self._client.get_experiment_by_name(self._study)
        if experiment is None:
            return False
        self._experiment_id = experiment.experiment_id
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(self._experiment_id)
        return True

    def _run(self, key: int | None) -> Run:
        run = self._runs.get(key)
        if run is None:
            whose = "the study" if key is None else f"trial {key}"
            raise TrackingError(f"{whose} has no run")
        return run

    def _log_files(self, run: Run, files: Sequence[str]) -> None:
        for file in files:
            self._fetch(Path(file))
            self._client.log_artifact(run.id, file, "network")

    def _log_metrics(self, run: Run, metrics: Mapping[str, float], time_ms: int) -> None:
        from mlflow.entities import Metric

        batch = [Metric(key, float(value), time_ms, 0) for key, value in metrics.items()]
        if batch:
            self._client.log_batch(run.id, metrics=batch)

    def _log_params(self, run: Run, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        batch = [Param(key, value) for key, value in params.items()]
        for first in range(0, len(batch), PARAMS_PER_REQUEST):
            self._client.log_batch(run.id, params=batch[first : first + PARAMS_PER_REQUEST])

    def _set_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            batch = [RunTag(key, value) for key, value in tags.items()]
            self._client.log_batch(run.id, tags=batch)

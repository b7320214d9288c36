"""Which MLflow run belongs to a study and to each of its trials; each is made once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY_TAG, TRIAL_TAG = "sqtune.study_uuid", "sqtune.trial"
STATE_TAG, FRONT_TAG, BEST_TAG = "sqtune.state", "sqtune.front", "sqtune.best"
STOPPED = "stopped"
NOTE_TAG = "mlflow.note.content"  # what MLflow's pages show as the description, in Markdown
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@dataclass(slots=True)
class Run:
    """What is known of a run.

    Attributes:
        id: MLflow's identifier.
        status: RUNNING, FINISHED, FAILED or KILLED.
        stopped: Whether its trial was stopped early.
        front: Whether its trial is marked as one of the front.
    """

    id: str
    status: str
    stopped: bool = False
    front: bool = False

    @property
    def ended(self) -> bool:
        """Whether its trial has ended and all there is of it was written before."""
        return self.status in ("FINISHED", "FAILED") or (self.status == "KILLED" and self.stopped)


class Runs:
    """The runs of one study. The key None stands for the study's own run.

    A request to make a run whose answer is lost has made it or not, now or a little later. So
    whoever asks again looks first, and `sweep` looks once more when the trial ends.

    Args:
        client: MLflow's client.
        experiment_id: The study's experiment.
        study: The study's name.
        uuid: The study's identity.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, study: str, uuid: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._study, self._uuid = study, uuid
        self._runs: dict[int | None, Run] = {}
        self._in_doubt: set[int | None] = set()

    def load(self) -> None:
        """Read the runs there are; delete all but one where a trial has several."""
        found: dict[int | None, list[Any]] = {}
        for run in self.search():
            found.setdefault(_key(run), []).append(run)
        for key, runs in found.items():
            self._keep_one(key, runs)

    def search(self, condition: str = "") -> list[Any]:
        """Return the study's runs that meet a condition in MLflow's language."""
        query = f"tags.`{STUDY_TAG}` = '{self._uuid}'" + (f" and {condition}" if condition else "")
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], query, max_results=1000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def get(self, key: int | None) -> Run | None:
        """Return a trial's run, or None."""
        return self._runs.get(key)

    def trials(self) -> dict[int, Run]:
        """Return the runs of trials by number."""
        return {key: run for key, run in self._runs.items() if key is not None}

    def open(self, key: int | None, tags: Mapping[str, str], start_ms: int) -> Run:
        """Return a run that is RUNNING: the one there is, or a new one.

        Args:
            key: The trial's number; None for the study.
            tags: Tags of a new run, beside those that say whose it is.
            start_ms: When a new run began, ms since 1970.
        """
        if key in self._in_doubt and key not in self._runs:
            self._adopt(key)
        run = self._runs.get(key)
        if run is None:
            return self._create(key, tags, start_ms)
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        return run

    def sweep(self, key: int | None) -> None:
        """Delete the doubles of a run whose making was in doubt."""
        if key in self._in_doubt:
            self._adopt(key)
            self._in_doubt.discard(key)

    def _create(self, key: int | None, tags: Mapping[str, str], start_ms: int) -> Run:
        own = {STUDY_TAG: self._uuid}
        name = self._study
        if key is not None:
            own |= {TRIAL_TAG: str(key)}
            name = f"{self._study}-{key:04d}"
        if os.environ.get(RETRIES) != "0":  # then MLflow itself may ask twice
            self._in_doubt.add(key)
        try:
            made = self._client.create_run(
                self._experiment_id, start_time=start_ms, tags={**own, **tags}, run_name=name
            )
        except Exception:
            self._in_doubt.add(key)
            raise
        self._runs[key] = Run(made.info.run_id, "RUNNING")
        return self._runs[key]

    def _adopt(self, key: int | None) -> None:
        """Look for the runs of a trial and keep one of them."""
        condition = "" if key is None else f"tags.`{TRIAL_TAG}` = '{key}'"
        runs = [run for run in self.search(condition) if _key(run) == key]
        if runs:
            self._keep_one(key, runs)

    def _keep_one(self, key: int | None, runs: list[Any]) -> None:
        """Keep the run that is known, or else has ended or holds most; delete the others."""
        known = self._runs.get(key)

        def rank(run: Any) -> tuple[bool, bool, int, int]:
            is_known = known is not None and run.info.run_id == known.id
            return is_known, _of(run).ended, len(run.data.metrics), -run.info.start_time

        best = max(runs, key=rank)
        for run in runs:
            if run is not best:
                self._client.delete_run(run.info.run_id)
        self._runs[key] = _of(best)


def _key(run: Any) -> int | None:
    number = run.data.tags.get(TRIAL_TAG)
    return None if number is None else int(number)


def _of(run: Any) -> Run:
    tags = run.data.tags
    return Run(
        id=run.info.run_id,
        status=run.info.status,
        stopped=tags.get(STATE_TAG) == STOPPED,
        front=tags.get(FRONT_TAG) == "true",
    )

"""Ray Tune: places trials on workers. The only module that imports ray.

What is asked for and what becomes of the results is the business of a `TrialSource`; Ray's own
experiment snapshots are not used to resume.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

QUIET = {  # Ray's own chatter and telemetry; a variable that is set already is left alone
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without GPUs sees none
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver has its own
    "TUNE_GLOBAL_CHECKPOINT_S": "60",  # snapshots that nobody reads: seldom
    "RAY_AUTH_MODE": "disabled",  # a cluster on this machine only
}
for _name, _value in QUIET.items():  # read when ray is imported
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from sqtune.config.options import Resources  # noqa: E402
from sqtune.errors import SqtuneError  # noqa: E402

MAX_WORKER_DEATHS = 2
REPORT_SECONDS = 1.0  # epochs shorter than this travel together
OBJECT_STORE_BYTES = 100 * 2**20  # data travel as files; Ray's default is a third of the memory


@dataclass(frozen=True, slots=True)
class Assignment:
    """One trial as a worker gets it.

    Attributes:
        number: The trial's number.
        config: Its TrialConfig as JSON.
        data: The prepared data set.
        save_to: Folder for the trained network.
        num_threads: Threads of torch.
        device: "cpu" or "cuda".
    """

    number: int
    config: str
    data: str
    save_to: str
    num_threads: int
    device: str


class TrialSource(Protocol):
    """Where trials come from and results go; called from the thread that runs `run_trials`."""

    def next_trial(self) -> Assignment | None:
        """Return the next trial, or None when there are no more."""

    def on_epochs(self, number: int, epochs: list[dict[str, float]]) -> None:
        """Take the results of epochs."""

    def on_end(self, number: int, facts: dict[str, Any]) -> None:
        """Take the news that a trial finished."""

    def on_failure(self, number: int, reason: str) -> None:
        """Take the news that a trial failed."""

    def on_tick(self) -> None:
        """Be called several times a second."""

    def should_stop(self) -> bool:
        """Tell whether the search ends now."""


class TrialActor(tune.Trainable):
    """A worker's slot: trains one trial after another in one process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a trial."""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        import sqtune.train.loop  # noqa: F401  (once per process, before the trial's clock starts)

        self._assignment = Assignment(**config["assignment"])
        self._started_at = time.time()
        self._results: Iterator[Any] | None = None

    def step(self) -> dict[str, Any]:
        """Train for about a second, at least one epoch, and report."""
        epochs: list[dict[str, float]] = []
        try:
            facts = self._train_for_a_while(epochs)
        except SqtuneError as error:
            return {"epochs": epochs, "failure": str(error), "done": True}
        except Exception:  # a fault in the program: the study goes on, the reason is kept
            return {"epochs": epochs, "failure": traceback.format_exc(), "done": True}
        return {"epochs": epochs, "facts": facts, "done": facts is not None}

    def _train_for_a_while(self, epochs: list[dict[str, float]]) -> dict[str, Any] | None:
        """Append the results of epochs; return the trial's facts after the last one."""
        if self._results is None:
            self._results = _train(self._assignment)
        stop_at = time.perf_counter() + REPORT_SECONDS
        for result in self._results:
            epochs.append({"epoch": result.epoch, **result.metrics()})
            if result.final:
                return {
                    **_facts(self._assignment),
                    "started_at": self._started_at,
                    "ended_at": time.time(),
                    "node": ray.util.get_node_ip_address(),
                    "process": os.getpid(),
                }
            if time.perf_counter() >= stop_at:
                return None
        raise AssertionError("train() ends with a final result")

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._results = None


def _train(assignment: Assignment) -> Iterator[Any]:
    from sqtune.config.trial import TrialConfig
    from sqtune.data.split import open_prepared
    from sqtune.train.loop import train

    return train(
        TrialConfig.model_validate_json(assignment.config),
        splits=open_prepared(Path(assignment.data)),
        device=assignment.device,
        num_threads=assignment.num_threads,
        save_to=Path(assignment.save_to),
    )


def _facts(assignment: Assignment) -> dict[str, Any]:
    from sqtune.config.trial import TrialConfig
    from sqtune.data.split import open_prepared
    from sqtune.deploy.footprint import footprint

    splits = open_prepared(Path(assignment.data))
    taken = footprint(
        TrialConfig.model_validate_json(assignment.config),
        in_channels=splits.num_channels,
        num_classes=len(splits.classes),
        image_size=splits.image_size,
    )
    return {**asdict(taken), "num_validation": len(splits.validation)}


class _StudySearcher(Searcher):
    """Passes Ray's questions on to the source. Holds the source outside of what Ray pickles."""

    def __init__(self, source: TrialSource | None = None) -> None:
        super().__init__()
        self.source = source

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        assert self.source is not None
        del trial_id
        assignment = self.source.next_trial()
        if assignment is None:
            return Searcher.FINISHED  # type: ignore[return-value]
        return {"assignment": asdict(assignment)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: a stopped and a finished trial look the same here; `_Results` knows."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Results(tune.Callback):
    """Hands results to the source."""

    def __init__(self, source: TrialSource | None = None) -> None:
        self.source = source

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        assert self.source is not None
        number = trial.config["assignment"]["number"]
        if result.get("epochs"):
            self.source.on_epochs(number, result["epochs"])
        if result.get("failure"):
            self.source.on_failure(number, result["failure"])
        elif result.get("facts"):
            self.source.on_end(number, result["facts"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        assert self.source is not None
        number = trial.config["assignment"]["number"]
        self.source.on_failure(
            number,
            f"its worker process died {MAX_WORKER_DEATHS + 1} times; out of memory is the usual "
            "reason: give fewer trials at once (search.max_concurrent) or a smaller batch_size.",
        )

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        assert self.source is not None
        self.source.on_tick()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Stopper(tune.Stopper):
    """Ends the search when the source says so."""

    def __init__(self, source: TrialSource | None = None) -> None:
        self.source = source

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.source is not None and self.source.should_stop()

    def __getstate__(self) -> dict[str, Any]:
        return {}


@contextmanager
def local_ray(num_cpus: int, num_gpus: int) -> Iterator[None]:
    """Run Ray on this machine, with so many CPUs and GPUs, for the block."""
    ray.init(
        address="local",
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def run_trials(
    source: TrialSource, resources: Resources, *, num_slots: int, most: int, folder: Path
) -> None:
    """Run the source's trials, `num_slots` at once, until it has no more or says stop.

    Args:
        source: Where trials come from and results go.
        resources: What one trial gets.
        num_slots: Trials at once.
        most: Trials at the very most.
        folder: For Ray Tune's own notes.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(TrialActor, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=_StudySearcher(source),
            num_samples=most,
            max_concurrent_trials=num_slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            callbacks=[_Results(source)],
            stop=_Stopper(source),
            failure_config=tune.FailureConfig(max_failures=MAX_WORKER_DEATHS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()

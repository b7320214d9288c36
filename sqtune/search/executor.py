"""Ray Tune: places trials on workers.

What is asked for and what becomes of the results is the business of a `TrialSource`; Ray's own
experiment snapshots are not used to resume. One Ray trial is one leg of a trial of the study. Ray
Tune keeps every trial that it has run, so it runs them in waves and is then made anew.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sqtune.search.ray_env import quieten

quieten()

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.exceptions import RayTaskError  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from sqtune.config.options import Resources  # noqa: E402
from sqtune.errors import ResourceError, SqtuneError  # noqa: E402
from sqtune.search.mishaps import Death  # noqa: E402
from sqtune.search.placing import Slots, Waiting, bundle_of, death_by, error_of, survive_low_memory  # noqa: E402
from sqtune.search.worker import Assignment, Leg  # noqa: E402

LEGS_IN_WAVE, LEGS_PER_SLOT = 1000, 16  # at least; a wave's end starts every worker process anew
OBJECT_STORE_BYTES = 100 * 2**20  # data travel as files; Ray's default is a third of the memory
Nothing = Literal["wait", "end"]


class TrialSource(Protocol):
    """Where trials come from and results go; called from the thread that runs `run_trials`."""

    def next_trial(self) -> Assignment | Nothing:
        """Return the next leg; "wait" if there is none now, "end" if there will be no more."""

    def on_report(self, report: dict[str, Any]) -> bool:
        """Take a worker's report (`worker.Leg.advance`); tell whether the leg ends here."""

    def on_return(self, number: int) -> None:
        """Take back a trial whose leg was ended in between: it is to go on in another."""

    def on_death(self, number: int, death: Death) -> None:
        """Take back a trial whose worker process died."""

    def say(self, text: str) -> None:
        """Show a line."""

    def on_tick(self) -> None:
        """Be called several times a second."""

    def should_stop(self) -> bool:
        """Tell whether the search ends now, whatever is running."""


class TrialActor(tune.Trainable):
    """A worker's slot: trains one leg after another in one process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a leg."""
        self._leg = Leg(Assignment(**json.loads(config["leg"])))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next leg in the same process."""
        self._leg.close()  # it may have been ended from outside
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for about a second, at least one epoch, and report."""
        report = self._leg.advance()
        report["node_id"] = ray.get_runtime_context().get_node_id()
        if "facts" in report:
            report["facts"]["node"] = ray.util.get_node_ip_address()
            report["facts"]["node_id"] = report["node_id"]
        return report

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._leg.close()


@dataclass(slots=True)
class _Wave:
    """What the parts that Ray calls share; Ray pickles them, and this stays behind.

    Attributes:
        source: Where trials come from and results go.
        slots: Legs at once.
        waiting: Notices that no leg finds room.
        most: Legs to begin.
        begun: Legs begun so far.
        ended: Whether there are no more trials.
        error: What the source raised where Ray would have swallowed it; it ends the wave.
    """

    source: TrialSource
    slots: Slots
    waiting: Waiting
    most: int
    begun: int = 0
    ended: bool = False
    error: SqtuneError | None = None

    @property
    def over(self) -> bool:
        """Whether the rest belongs to the next wave."""
        return self.begun >= self.most

    def tick(self) -> None:
        """Do what is done several times a second."""
        self.slots.look()
        self.source.on_tick()


class _StudySearcher(Searcher):
    """Passes Ray's questions on to the source."""

    def __init__(self, wave: _Wave | None = None) -> None:
        super().__init__()
        self.wave = wave
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        assert self.wave is not None
        self.wave.tick()  # while nothing runs, this is all that Ray calls
        if len(self._live) >= self.wave.slots.count:
            return None
        assignment = "end" if self.wave.over else self.wave.source.next_trial()
        if assignment == "wait":
            return None
        if assignment == "end":
            self.wave.ended = not self.wave.over
            return Searcher.FINISHED  # type: ignore[return-value]
        self.wave.begun += 1
        # One text: Ray Tune flattens, merges and copies what a trial's configuration is made of.
        leg = json.dumps(asdict(assignment))
        self._live.add(trial_id)
        return {"number": assignment.number, "gpus": assignment.gpus, "leg": leg}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Count the slot as free; how the leg ended, `_Reports` knows."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Reports(tune.Stopper):
    """Hands reports to the source, and ends the leg where it says so."""

    def __init__(self, wave: _Wave | None = None) -> None:
        self.wave = wave

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        assert self.wave is not None
        try:
            ends = self.wave.source.on_report(result)
        except SqtuneError as error:
            self.wave.error = error
            return True
        if not ends and self.wave.over:
            self.wave.source.on_return(result["number"])
            return True
        return ends

    def stop_all(self) -> bool:
        if self.wave is None:
            return False
        return self.wave.error is not None or self.wave.source.should_stop()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Events(tune.Callback):
    """Tells the source of deaths and of time passing."""

    def __init__(self, wave: _Wave | None = None) -> None:
        self.wave = wave

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        assert self.wave is not None
        number, error = trial.config["number"], error_of(trial)
        try:
            if isinstance(error, RayTaskError) or "creation task" in str(error):
                # step() raises nothing: the worker could not even begin
                reason = str(error).strip().splitlines()[-1]
                report = {"number": number, "epochs": [], "unsuited": f"a worker: {reason}"}
                self.wave.source.on_report(report)
            else:
                self.wave.source.on_death(number, death_by(error))
        except SqtuneError as raised:
            self.wave.error = raised

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        assert self.wave is not None
        self.wave.tick()
        self.wave.waiting.look(trial.status for trial in trials)

    def __getstate__(self) -> dict[str, Any]:
        return {}


@contextmanager
def local_ray(num_cpus: int, num_gpus: int) -> Iterator[None]:
    """Run Ray on this machine, with so many CPUs and GPUs, for the block.

    Raises:
        ResourceError: It does not start.
    """
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # it gives its processes 30 s, and has no error of its own for that
        raise ResourceError(
            f"Ray does not start on this machine: {error} Is it overloaded, or /tmp full? The same "
            "command goes on."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def run_trials(
    source: TrialSource,
    resources: Resources,
    *,
    num_slots: int | Callable[[], int],
    folder: Path,
    trainable: type[tune.Trainable] = TrialActor,
) -> None:
    """Run the source's trials, `num_slots` at once, until it has no more or says stop.

    Args:
        source: Where trials come from and results go; it says how many GPUs a leg gets.
        resources: What one trial gets besides.
        num_slots: Trials at once, or what counts how many there can be now.
        folder: For Ray Tune's own notes; emptied after each wave.
        trainable: What trains a leg; another one for benchmarks of the driver itself.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    survive_low_memory()
    slots, waiting = Slots(num_slots), Waiting(resources, source.say)
    while True:
        wave = _Wave(source, slots, waiting, max(LEGS_IN_WAVE, LEGS_PER_SLOT * slots.count))
        _run_wave(wave, resources, folder, trainable)
        shutil.rmtree(folder, ignore_errors=True)
        if wave.ended or not wave.over or source.should_stop():
            return


def _run_wave(
    wave: _Wave,
    resources: Resources,
    folder: Path,
    trainable: type[tune.Trainable],
) -> None:
    tuner = tune.Tuner(
        tune.with_resources(trainable, bundle_of(resources)),
        tune_config=tune.TuneConfig(
            search_alg=_StudySearcher(wave),
            num_samples=wave.most + 1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            callbacks=[_Events(wave)],
            stop=_Reports(wave),
            failure_config=tune.FailureConfig(max_failures=0),  # Ray counts no death before a leg
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            progress_reporter=tune.CLIReporter(),  # a notebook's own wipes what stands there
            verbose=0,
        ),
    )
    tuner.fit()
    if wave.error is not None:
        raise wave.error

"""Plan: what a search is about to cost and what of its space fits, before anything is trained.

Points are all gone through where they are few, else drawn at random. Trials are those that a study
in memory proposes, as if each had finished before the next: the very ones of a search by random,
qmc, grid or points, a likeness of one that learns. Early stopping would save more; stages that the
store has from before would, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqtune.config.options import Resources, Sampler
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.data import Data
from sqtune.data.split import Splits, write_prepared
from sqtune.deploy.sizes.footprint import Form
from sqtune.errors import ResourceError
from sqtune.search.courses import branch_epochs
from sqtune.search.machine import Machine, slots_on, this_machine
from sqtune.search.peak import largest_configs, share_of_gpu, share_text
from sqtune.search.probe import probe_epoch
from sqtune.search.storage import in_memory
from sqtune.search.study import Study
from sqtune.search.survey import Measures, Survey, survey
from sqtune.train.stages import epoch_keys, stage_ends

MOST_PROPOSALS = 2_000
PROPOSED_AS_THEY_ARE: tuple[Sampler, ...] = ("random", "qmc", "grid", "points")


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of a search.

    Attributes:
        sampler: Who proposed them; "random" stands for samplers that learn.
        trials: Trials that train; fewer than the space asks for where there are no more, or where
            2,000 proposals were not enough.
        refused: Proposals that do not fit the target.
        repeated: Proposals that repeat a trial.
        stages_asked: Stages (and spans between rungs) of all trials, each trained alone.
        stages: Different ones among them.
        epochs_asked: Epochs of all trials, each trained alone.
        epochs: Epochs that are trained, with what trials share trained once.
    """

    sampler: Sampler
    trials: int
    refused: int
    repeated: int
    stages_asked: int
    stages: int
    epochs_asked: int
    epochs: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What the trials take on this machine; an estimate, in proportion to multiply-adds.

    Attributes:
        slots: Trials at once.
        typical: Network of the median multiply-adds, whose epoch was timed.
        gpus: What one trial gets.
        note: How `resources.gpus: auto` was settled; None where a number stands there.
        epoch_seconds: What its epoch takes.
        probed_images: On how many images that was measured.
        seconds: From the first trial's start to the last one's end.
        cpu_hours: CPUs held, times hours.
        gpu_hours: GPUs held, times hours.
    """

    slots: int
    typical: dict[str, Any]
    gpus: float
    note: str | None
    epoch_seconds: float
    probed_images: int
    seconds: float
    cpu_hours: float
    gpu_hours: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search is about to do.

    Attributes:
        form: In which sizes are given.
        survey: What the points of its space take.
        trials: What it trains.
        cost: What that takes; None where nothing fits or this machine cannot run it.
        no_cost: Why there is no cost.
    """

    form: Form
    survey: Survey
    trials: Trials
    cost: Cost | None
    no_cost: str | None


def plan(space: SearchSpace, splits_of: Callable[[Data], Splits]) -> Plan:
    """Return what a search of a space is about to do. Takes seconds, beside reading the data.

    Args:
        space: What is searched.
        splits_of: Reads a data set; it is called once for each, whatever its split.

    Raises:
        ConfigError: The sampler does not suit the space.
        NetworkError, StoreError, TrainingError: A configuration cannot be trained.
    """
    measures = Measures(space, splits_of)
    surveyed = survey(space, measures)
    trained, trials = _trials(space, measures)
    cost, no_cost = None, None
    if not trained:
        no_cost = "no proposal fits the target"
    else:
        try:
            cost = _cost(space, trained, measures)
        except ResourceError as error:
            no_cost = str(error)
    return Plan(measures.form, surveyed, trials, cost, no_cost)


@dataclass(frozen=True, slots=True)
class _Trained:
    """A trial that trains, and the epochs it trains itself."""

    config: TrialConfig
    macs: int
    epochs: int


def _trials(space: SearchSpace, measures: Measures) -> tuple[list[_Trained], Trials]:
    """Return the trials of a search, as a study proposes them."""
    sampler = space.search.sampler
    sampler = sampler if sampler in PROPOSED_AS_THEY_ARE else "random"
    search = space.search.model_copy(update={"sampler": sampler, "objectives": ("val_error",)})
    study = Study.create_or_continue(
        in_memory(),
        space.model_copy(update={"search": search}),
        {},
        footprint=measures.footprint,
    )
    stored, branches = set[str](), branch_epochs(space)
    trained: list[_Trained] = []
    refused = repeated = stages_asked = epochs_asked = 0
    for _ in range(MOST_PROPOSALS):
        if len(trained) == search.num_trials:
            break
        trial = study.ask()
        if trial is None:
            break
        if trial.ended:
            refused += trial.state == "refused"
            repeated += trial.duplicate_of is not None
            continue
        config = trial.config
        rungs = search.early_stopping.epochs(config.num_epochs)
        others = branches.get(config.num_epochs, ())
        staying = {*stage_ends(config), *rungs, *others}  # whose checkpoints others can take up
        keys = _keys(space, config)
        begun = max((end for end in staying if keys[end - 1] in stored), default=0)
        stored.update(keys[end - 1] for end in staying)
        trained.append(_Trained(config, trial.facts["macs"], config.num_epochs - begun))
        stages_asked += len(staying)
        epochs_asked += config.num_epochs
        study.finish(trial.number, 0.5, {})
    return trained, Trials(
        sampler=sampler,
        trials=len(trained),
        refused=refused,
        repeated=repeated,
        stages_asked=stages_asked,
        stages=len(stored),
        epochs_asked=epochs_asked,
        epochs=sum(each.epochs for each in trained),
    )


def _keys(space: SearchSpace, config: TrialConfig) -> tuple[str, ...]:
    """Return the keys of a training's epochs, with the data's name in place of their sha256."""
    return epoch_keys(config, repr(asdict(config.data)), num_threads=space.resources.num_threads)


def _cost(space: SearchSpace, trained: list[_Trained], measures: Measures) -> Cost:
    machine, resources, note = _settled(space, measures)
    typical = sorted(trained, key=lambda each: each.macs)[len(trained) // 2]
    probe = probe_epoch(
        typical.config,
        measures.splits(typical.config),
        macs=typical.macs,
        device=resources.device,
        num_threads=resources.num_threads,
    )
    seconds = [probe.epoch_seconds * each.epochs * each.macs / typical.macs for each in trained]
    there = slots_on(machine.cpus, machine.gpus, resources)
    slots = min(there, space.search.max_concurrent or there, len(trained))
    return Cost(
        slots=slots,
        typical=typical.config.nested()["network"],
        gpus=resources.known_gpus,
        note=note,
        epoch_seconds=probe.epoch_seconds,
        probed_images=probe.num_images,
        seconds=max(sum(seconds) / slots, *seconds),
        cpu_hours=sum(seconds) * resources.cpus / 3600,
        gpu_hours=sum(seconds) * resources.known_gpus / 3600,
    )


def _settled(space: SearchSpace, measures: Measures) -> tuple[Machine, Resources, str | None]:
    """Return this machine, what a trial gets on it, and how that was settled if it was to be."""
    machine = this_machine(space.resources)
    resources = machine.resources
    if resources.gpus != "auto":
        return machine, resources, machine.note
    from sqtune.search.gpu_probe import measured_here

    with tempfile.TemporaryDirectory(prefix="sqtune-plan-") as folder:
        trainings = []
        for number, config in enumerate(largest_configs(space, measures.splits)):
            path = Path(folder) / f"{number}.data"
            write_prepared(measures.splits(config), path)
            trainings.append((config.model_dump_json(), str(path)))
        peaks = [measured_here(trainings)]
    most = max(1, slots_on(machine.cpus, machine.gpus, resources) // machine.gpus)
    gpus = share_of_gpu(peaks, most)
    settled = resources.model_copy(update={"gpus": gpus})
    return machine, settled, share_text(peaks, gpus, most)

"""How a search runs: sampler, objectives, early stopping, budgets, resources."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sqtune.config.training import Strict
from sqtune.config.units import Count, ErrorShare, Seconds, Size

Sampler = Literal["tpe", "random", "grid", "qmc", "nsga2", "nsga3", "cmaes", "gp", "points"]
Objective = Literal["val_error", "size_bytes", "bit_operations"]
RungMetric = Literal["val_error", "val_error_hybrid", "train_loss"]
SINGLE_OBJECTIVE: tuple[Sampler, ...] = ("cmaes",)


class EarlyStopping(Strict):
    """Asynchronous successive halving: at each rung only the better part of the trials goes on.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
    """

    name: Literal["none", "stop", "pause"] = "none"
    """`none`: every trial trains to its end. `stop`: a trial that is not among the better part when
    it reaches a rung ends there. `pause`: it waits, its stages stored, and goes on once enough
    others have turned out worse."""
    rungs: Annotated[tuple[float, ...], Field(min_length=1)] = (0.25, 0.5)
    """Shares of the training (0..1), increasing, at which trials are compared."""
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the compared trials that goes on from a rung."""
    min_trials: Annotated[int, Field(ge=2)] = 4
    """Comparable trials, with the one in question, before any is held at a rung."""
    metric: RungMetric = "train_loss"
    """What is compared. Losses tell most and earliest, and in float epochs too, but only where all
    trials optimise the same one: not where `distillation` or `regularization` is searched."""
    compare: Literal["same_ratio", "centred", "all"] = "all"
    """`same_ratio`: only trials that have the same ratio at the rung. `centred`: all, each less the
    median of those with its ratio. `all`: all as they are."""

    @field_validator("rungs")
    @classmethod
    def _increasing(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if list(rungs) != sorted(set(rungs)) or not all(0 < rung < 1 for rung in rungs):
            raise ValueError(
                "rungs are shares of the training, increasing and between 0 and 1, such as "
                f"[0.25, 0.5], not {list(rungs)}."
            )
        return rungs

    def epochs(self, num_epochs: int) -> tuple[int, ...]:
        """Return the epochs after which trials are compared; never the last one.

        >>> EarlyStopping(name="stop").epochs(12), EarlyStopping(name="stop").epochs(1)
        ((3, 6), ())
        """
        if self.name == "none":
            return ()
        epochs = {round(rung * num_epochs) for rung in self.rungs}
        return tuple(sorted(epoch for epoch in epochs if 0 < epoch < num_epochs))


class SearchOptions(Strict):
    """How the search runs."""

    num_trials: Annotated[int, Field(ge=1, le=1_000_000)] = 24
    """Trials to end: finished, failed, or stopped early. Refused and repeated configurations, which
    cost nothing, do not count."""
    sampler: Sampler = "tpe"
    """`tpe`, `gp`, `cmaes`, `nsga2` and `nsga3` learn from the trials that have ended; `random`,
    `qmc` (Sobol) and `grid` (every point of a finite space, in order) do not; `points` tries what
    stands under `points:` and nothing else."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("val_error",)
    """What is minimised. With several, the best trade-offs (the Pareto front) are sought."""
    early_stopping: EarlyStopping = EarlyStopping()
    """Whether, when and how trials are stopped before their end."""
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """Trials at once; by default as many as the resources allow."""
    time_limit_seconds: Seconds | None = None
    """The search ends after this time (2h, 90min), however many trials have finished."""
    target_error: ErrorShare | None = None
    """The search ends once a quantized network has at most this validation error (1% or 0.01)."""
    max_gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """The search ends once its trials have held GPUs for so many hours, all told."""
    max_failures: Annotated[int, Field(ge=1)] = 5
    """The search ends after so many failed trials of the same cause."""
    watchdog_seconds: Seconds = 7200.0
    """A worker whose epoch takes longer is ended, with its stacks in `sqtune logs TRIAL`; the trial
    goes on from its last epoch, at most twice, then it fails."""

    @field_validator("objectives")
    @classmethod
    def _distinct(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        if len(set(objectives)) < len(objectives):
            raise ValueError(f"each objective stands once, not {list(objectives)}.")
        if "val_error" not in objectives:
            raise ValueError("val_error is one of the objectives in any case: add it.")
        return objectives

    @model_validator(mode="after")
    def _sampler_suits(self) -> Self:
        if len(self.objectives) > 1 and self.sampler in SINGLE_OBJECTIVE:
            raise ValueError(
                f"the sampler {self.sampler} takes one objective, not {len(self.objectives)}: "
                "take tpe, nsga2 or nsga3, or objectives: [val_error]."
            )
        return self


class Target(Strict):
    """What the network has to fit into. A configuration that does not is refused, untrained."""

    form: Literal["onnx", "c"] = "onnx"
    """What is delivered: an ONNX file, or C arrays in flash."""
    max_flash: Size | None = None
    """Bytes of the delivered form, such as 64KiB."""
    max_ram: Size | None = None
    """Bytes of the activations that are alive at the same time, for one image."""
    max_macs: Count | None = None
    """Multiply-adds for one image, such as 20M."""


class StageOptions(Strict):
    """Where stages of training are kept, so that trials that begin alike train them once."""

    url: str | None = None
    """A folder, or a URL that fsspec knows; by default a folder in the store."""
    max_size: Size = 20 * 2**30
    """What the stages may take (20GiB); those used longest ago are removed first."""


class Resources(Strict):
    """What one trial gets."""

    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """CPUs; torch gets as many threads, at least one."""
    gpus: Literal["auto"] | Annotated[float, Field(ge=0, le=1024)] = 0.0
    """GPUs: whole numbers, a share of one, which is also a share of its memory, or `auto`: the
    share whose memory the largest configuration takes, as measured; 0 where there is no GPU."""
    accelerator_type: Annotated[str, Field(min_length=1)] | None = None
    """Kind of GPU, as Ray names it (A100, T4): trials run only on nodes that have it."""

    @field_validator("gpus")
    @classmethod
    def _share_or_whole(cls, gpus: Literal["auto"] | float) -> Literal["auto"] | float:
        if gpus != "auto" and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus is a share of one GPU or a whole number, not {gpus}.")
        return gpus

    @model_validator(mode="after")
    def _kind_of_gpu(self) -> Self:
        if self.accelerator_type is not None and not self.gpus:
            raise ValueError(
                f"accelerator_type: {self.accelerator_type} is a kind of GPU, and trials get none: "
                "give gpus as well (auto, or a number)."
            )
        return self

    @property
    def known_gpus(self) -> float:
        """GPUs of a trial; 0 as long as `auto` has not been settled."""
        return 0.0 if self.gpus == "auto" else self.gpus

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where trials train."""
        return "cuda" if self.gpus else "cpu"

    @property
    def num_threads(self) -> int:
        """Threads of torch in a trial."""
        return max(1, int(self.cpus))

"""How a network is trained, apart from the method: optimizer, start, soft targets, computation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sqtune.errors import QuantizationError
from sqtune.quant import Float, LayerRule

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _checked_pattern(text: str) -> str:
    try:
        LayerRule(text, Float())
    except QuantizationError as error:
        raise ValueError(
            f"{error} A pattern is a module's name, such as group1, or several: stem|head."
        ) from None
    return text


Pattern = Annotated[str, AfterValidator(_checked_pattern)]


@dataclass(frozen=True, slots=True)
class Constant:
    """The learning rate stays."""

    name: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        """Return the share of the learning rate at `progress` (0..1)."""
        del progress
        return 1.0


@dataclass(frozen=True, slots=True)
class Cosine:
    """Half a cosine from the learning rate down to 0 (Loshchilov and Hutter, SGDR)."""

    name: Literal["cosine"] = "cosine"

    def factor(self, progress: float) -> float:
        """Return the share of the learning rate at `progress` (0..1)."""
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True)
class Steps:
    """The learning rate is multiplied by `gamma` at each milestone (the paper's recipes).

    Attributes:
        milestones: Points of progress in (0, 1).
        gamma: The factor.
    """

    name: Literal["steps"] = "steps"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 < milestone < 1 for milestone in self.milestones):
            raise ValueError(f"milestones are points of progress in (0, 1): {self.milestones}.")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is in (0, 1], not {self.gamma}.")

    def factor(self, progress: float) -> float:
        """Return the share of the learning rate at `progress` (0..1)."""
        return float(self.gamma ** sum(progress >= milestone for milestone in self.milestones))


LearningRateSchedule = Annotated[Constant | Cosine | Steps, Field(discriminator="name")]


class Strict(BaseModel):
    """Frozen, and no field but the declared ones."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Optimizer(Strict):
    """How the latent weights are updated."""

    name: Literal["sgd", "adamw"] = "sgd"
    """`sgd` (the paper's) or `adamw`."""
    lr: Positive = 0.1
    """Learning rate at the start."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of `sgd`; the first beta of `adamw`."""
    weight_decay: NonNegative = 1e-4
    """Weight decay of all parameters."""
    schedule: LearningRateSchedule = Cosine()
    """How the learning rate falls, in units of progress."""
    restarts: Literal["never", "stage"] = "never"
    """`never`: one learning-rate schedule over the whole training. `stage`: it starts anew at each
    stage of the ratio schedule, as in the paper's recipes; weights and momentum go on."""


class Start(Strict):
    """A float network to start from."""

    weights: str
    """A folder that `sqtune train --out` or a search wrote, or a file with a state_dict
    (.safetensors, or .pt / .pth as torch saves it)."""
    fresh: tuple[Pattern, ...] = ()
    """Regular expressions of modules that keep their fresh weights, such as a classifier for other
    classes."""


class Distillation(Strict):
    """Soft targets of a float network (Hinton et al., 2015)."""

    weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the soft targets in the loss that is optimised (and reported as `train_loss`); 0
    turns distillation off."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    """What both networks' logits are divided by."""
    teacher: str | None = None
    """A folder or file as for `start.weights`. By default the network as it stands at the end of
    the schedule's float warm-up, or else what it started from."""


class Compute(Strict):
    """How a training step is computed."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`bfloat16`: autocast. `auto`: bfloat16 on CUDA devices that have it, float32 on CPU."""
    channels_last: Literal["auto", "on", "off"] = "auto"
    """Memory format of images and weights. `auto`: on with CUDA."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """torch.compile's mode; `reduce-overhead` uses CUDA graphs."""
    data_workers: Literal["auto"] | Annotated[int, Field(ge=0, le=64)] = "auto"
    """Processes that read and decode the images of a streamed data set; 0: the one that trains.
    `auto`: as many as the trial has CPUs, 0 for a single one. The numbers do not depend on it."""

    def readers(self, num_cpus: int) -> int:
        """Return the number of processes that read for a trial of so many CPUs.

        >>> Compute().readers(1), Compute().readers(4), Compute(data_workers=2).readers(1)
        (0, 4, 2)
        """
        if self.data_workers != "auto":
            return self.data_workers
        return num_cpus if num_cpus > 1 else 0

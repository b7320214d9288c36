"""TrialConfig: everything that decides what one training run does. Frozen, strict, hashable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sqtune.data import Cifar, Data, Digits, ImageFolder
from sqtune.networks import Network, ResNet
from sqtune.quant import (
    Average,
    Binary,
    Exponential,
    Float,
    Linear,
    Quantizer,
    Schedule,
    Selection,
    Stages,
    Ternary,
    Uniform,
)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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


class TrialConfig(Strict):
    """One training run. Equal configurations give bit-identical results on CPU."""

    data: Annotated[Data, Field(discriminator="name")] = Digits()
    """The images, their split and their augmentation."""
    network: Network = ResNet()
    """The network."""
    quantizer: Annotated[Quantizer, Field(discriminator="name")] = Binary()
    """What the weights are quantized to."""
    selection: Selection = Selection()
    """Which rows are quantized at a step while the ratio is below 1."""
    schedule: Annotated[Schedule, Field(discriminator="name")] = Exponential()
    """The ratio as a function of training progress."""
    optimizer: Optimizer = Optimizer()
    """How the latent weights are updated."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    """Images in a training step."""
    num_epochs: Annotated[int, Field(ge=1, le=100_000)] = 12
    """Passes over the training split."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of weights, order, augmentation and selection."""

    def nested(self) -> dict[str, Any]:
        """Return plain nested data that JSON and YAML can hold."""
        return self.model_dump(mode="json")

    def flat(self) -> dict[str, Any]:
        """Return dotted paths to plain values, as MLflow and messages show them.

        >>> TrialConfig().flat()["quantizer.name"]
        'binary'
        """
        return flatten(self.nested())


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted paths to the leaves of nested mappings; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        path = f"{prefix}{key}"
        flat.update(flatten(value, f"{path}.") if isinstance(value, dict) else {path: value})
    return flat


__all__ = [
    "Average",
    "Cifar",
    "Constant",
    "Cosine",
    "Float",
    "ImageFolder",
    "Linear",
    "Optimizer",
    "Stages",
    "Steps",
    "Strict",
    "Ternary",
    "TrialConfig",
    "Uniform",
    "flatten",
]

"""TrialConfig: everything that decides what one training run does. Frozen, strict, hashable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from sqtune.data import Cifar, Data, Digits, ImageFolder
from sqtune.errors import QuantizationError
from sqtune.networks import Network, ResNet
from sqtune.quant import (
    Activations,
    Average,
    Binary,
    Exponential,
    Float,
    LayerRule,
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
    stage of the ratio schedule, as in the paper's recipes."""


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
    """Share of the soft targets in the loss; 0 turns distillation off."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    """What both networks' logits are divided by."""
    teacher: str | None = None
    """A folder or file as for `start.weights`. By default the network as it stands at the end of
    the schedule's float warm-up, or else what it started from."""


class Compute(Strict):
    """How a training step is computed."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`bfloat16`: autocast. `auto`: bfloat16 on CUDA, float32 on CPU."""
    channels_last: Literal["auto", "on", "off"] = "auto"
    """Memory format of images and weights. `auto`: on with CUDA."""
    compile: Literal["off", "default", "reduce-overhead"] = "off"
    """torch.compile's mode; `reduce-overhead` uses CUDA graphs."""


class Override(Strict):
    """Layers with a quantizer of their own."""

    match: Pattern
    """Regular expression for a module's whole name, or that of a module around it."""
    quantizer: Annotated[Quantizer, Field(discriminator="name")]
    """What their weights are quantized to."""


class TrialConfig(Strict):
    """One training run. Equal configurations give bit-identical results on CPU."""

    data: Annotated[Data, Field(discriminator="name")] = Digits()
    """The images, their split and their augmentation."""
    network: Annotated[Network, Field(discriminator="name")] = ResNet()
    """The network."""
    start: Start | None = None
    """A float network to start from; by default fresh weights."""
    quantizer: Annotated[Quantizer, Field(discriminator="name")] = Binary()
    """What the weights are quantized to."""
    keep_float: tuple[Pattern, ...] = ()
    """Regular expressions of modules whose weights stay float; they come before `overrides`."""
    overrides: tuple[Override, ...] = ()
    """Layers with a quantizer of their own; the first that matches acts."""
    activation_bits: Literal[2, 4, 8, 32] = 32
    """Bits of the inputs of quantized layers; 32: float, as in the paper."""
    activation_clipping: Literal["lsq", "pact"] = "lsq"
    """How the clipping point of low-bit activations is learned."""
    activation_ends_bits: Literal[2, 4, 8, 32] = 8
    """Bits of the first and the last layer's inputs where activations are quantized."""
    selection: Selection = Selection()
    """Which rows are quantized at a step while the ratio is below 1."""
    schedule: Annotated[Schedule, Field(discriminator="name")] = Exponential()
    """The ratio as a function of training progress."""
    optimizer: Optimizer = Optimizer()
    """How the latent weights are updated."""
    distillation: Distillation = Distillation()
    """Soft targets of a float network, beside the labels."""
    compute: Compute = Compute()
    """How a training step is computed."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    """Images in a training step."""
    num_epochs: Annotated[int, Field(ge=1, le=100_000)] = 12
    """Passes over the training split."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of weights, order, augmentation and selection."""

    @field_validator("network", mode="before")
    @classmethod
    def _default_network(cls, network: Any) -> Any:
        """Take a mapping without a name for a resnet20, as all were before there were others."""
        if isinstance(network, dict) and not network.keys() & {"name", "model"}:
            return {"name": ResNet().name, **network}
        return network

    @field_validator("activation_ends_bits")
    @classmethod
    def _activations_act(cls, ends_bits: Any, info: ValidationInfo) -> Any:
        bits = info.data.get("activation_bits", 32)
        if bits != 32:
            Activations(bits, ends_bits=ends_bits)
        return ends_bits

    @property
    def rules(self) -> tuple[LayerRule, ...]:
        """The layers with a quantizer of their own, in the order in which they act."""
        kept = (LayerRule(match, Float()) for match in self.keep_float)
        others = (LayerRule(override.match, override.quantizer) for override in self.overrides)
        return (*kept, *others)

    @property
    def activations(self) -> Activations | None:
        """What the inputs of layers are quantized to; None for float."""
        if self.activation_bits == 32:
            return None
        return Activations(
            self.activation_bits, self.activation_clipping, self.activation_ends_bits
        )

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
    """Return dotted paths to the leaves of nested mappings and of lists of mappings.

    Other lists are leaves, and so is what is empty.

    >>> flatten({"overrides": [{"match": "stem"}], "ratios": [0.5, 1], "space": {}})
    {'overrides.0.match': 'stem', 'ratios': [0.5, 1], 'space': {}}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        path, inside = f"{prefix}{key}", value
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            inside = dict(enumerate(value))
        is_leaf = not isinstance(inside, dict) or not inside
        flat.update({path: value} if is_leaf else flatten(inside, f"{path}."))
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

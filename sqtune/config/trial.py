"""TrialConfig: everything that decides what one training run does. Frozen, strict, hashable."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
)

from sqtune.config.training import (
    Compute,
    Distillation,
    Ema,
    Optimizer,
    Pattern,
    Regularization,
    Start,
    Strict,
)
from sqtune.data import Data, Digits
from sqtune.networks import Network, ResNet
from sqtune.quant import (
    Activations,
    Binary,
    Exponential,
    Float,
    LayerRule,
    Quantizer,
    Schedule,
    Selection,
    epoch_ratio,
)


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
    ema: Ema = Ema()
    """An average of the weights that is delivered instead of the last ones."""
    regularization: Regularization = Regularization()
    """What keeps the network from learning its training images by heart."""
    compute: Compute = Compute()
    """How a training step is computed."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    """Images in a training step."""
    num_epochs: Annotated[int, Field(ge=1, le=100_000)] = 12
    """Passes over the training split."""
    distillation: Distillation = Distillation()
    """Soft targets of a float network, beside the labels."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of weights, order, augmentation and selection."""

    @field_validator("network", mode="before")
    @classmethod
    def _default_network(cls, network: Any) -> Any:
        """Give a mapping without a name the one that its fields imply: a factory, or a resnet20."""
        if isinstance(network, dict) and not network.keys() & {"name", "model"}:
            implied = "factory" if "factory" in network else ResNet().name
            return {"name": implied, **network}
        return network

    @field_validator("data", mode="before")
    @classmethod
    def _named_data(cls, data: Any) -> Any:
        """Give a mapping without a name that has a factory the name that this implies.

        What was JSON is Python's from here on, whose lists are no tuples to a strict model.
        """
        if not isinstance(data, dict):
            return data
        fields = {key: tuple(it) if isinstance(it, list) else it for key, it in data.items()}
        return {"name": "factory", **fields} if "factory" in fields else fields

    @field_validator("activation_ends_bits")
    @classmethod
    def _activations_act(cls, ends_bits: Any, info: ValidationInfo) -> Any:
        bits = info.data.get("activation_bits", 32)
        if bits != 32:
            Activations(bits, ends_bits=ends_bits)
        return ends_bits

    @field_validator("distillation")  # which therefore stands below the fields that it looks at
    @classmethod
    def _taught(cls, distillation: Distillation, info: ValidationInfo) -> Distillation:
        start, schedule, num_epochs = map(info.data.get, ("start", "schedule", "num_epochs"))
        if distillation.weight == 0 or distillation.teacher or not (schedule and num_epochs):
            return distillation
        if _begins_float(schedule, num_epochs) or (start and not start.fresh):
            return distillation
        raise ValueError(
            f"there is no teacher for the soft targets (weight {distillation.weight:g}): name one "
            "(distillation.teacher), start from a whole float network (start.weights, without "
            f"start.fresh), or begin with a float epoch (schedule.warmup; there is none in "
            f"{num_epochs})."
        )

    @property
    def has_float_warmup(self) -> bool:
        """Whether the ratio schedule begins with at least one float epoch."""
        return _begins_float(self.schedule, self.num_epochs)

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


def _begins_float(schedule: Schedule, num_epochs: int) -> bool:
    return epoch_ratio(schedule, 1, num_epochs) == 0


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

"""What a training step is timed with: float, our quantizers and selections, and Brevitas."""

from __future__ import annotations

import copy
import importlib.util
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqtune.quant import (
    Binary,
    LearnedUniform,
    Quantizer,
    Selection,
    StochasticQuantization,
    Ternary,
    Uniform,
)

RATIO = 0.5
LINEAR = Selection()
BrevitasWeights = Literal["ternary per tensor", "4 bits per channel"]


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train.

    Attributes:
        name: On the command line and in tables.
        quantizer: Of ours; None for float and for Brevitas.
        selection: Of ours.
        brevitas: Weights that Brevitas quantizes, all of them and in every step.
        claimed: Whether there is a bound on its step tax.
    """

    name: str
    quantizer: Quantizer | None = None
    selection: Selection = LINEAR
    brevitas: BrevitasWeights | None = None
    claimed: bool = False


FLOAT, FLOAT_AGAIN = Method("float"), Method("float-again")
METHODS = (
    Method("binary", Binary(), claimed=True),
    Method("ternary", Ternary(), claimed=True),
    Method("ternary-row", Ternary("row")),
    Method("uniform4", Uniform(4)),
    Method("lsq4", LearnedUniform(4)),
    Method("binary-constant", Binary(), Selection("constant")),
    Method("binary-softmax", Binary(), Selection("softmax")),
    Method("binary-sigmoid", Binary(), Selection("sigmoid")),
    Method("binary-error", Binary(), Selection("error")),
    Method("binary-element", Binary(), Selection(granularity="element")),
    Method("brevitas-ternary", brevitas="ternary per tensor"),
    Method("brevitas-4bit", brevitas="4 bits per channel"),
)


def brevitas_is_installed() -> bool:
    return importlib.util.find_spec("brevitas") is not None


class Runner:
    """A method with a network, an optimizer and, for ours, the quantization of its own.

    Args:
        method: How to train.
        model: Where to start; it is copied, so that all methods begin with the same weights.
        device: Where the step runs. On CUDA: bfloat16 autocast, channels_last.
    """

    def __init__(self, method: Method, model: nn.Module, device: torch.device) -> None:
        self.method = method
        self._autocast = device.type == "cuda"
        model = copy.deepcopy(model)
        if method.brevitas is not None:
            _put_brevitas_layers(model, method.brevitas)
        if device.type == "cuda":
            self.model = model.to(device, memory_format=torch.channels_last)
        else:
            self.model = model.to(device)
        self.quantization: StochasticQuantization | None = None
        groups = [{"params": list(self.model.parameters()), "weight_decay": 1e-4}]
        if method.quantizer is not None:
            self.quantization = StochasticQuantization(
                self.model, method.quantizer, selection=method.selection
            )
            learned = self.quantization.parameters()
            groups += [{"params": learned, "weight_decay": 0.0}] if learned else []
        self.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, foreach=True)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Train one step."""
        self.optimizer.zero_grad()
        with self.hybrid():
            with torch.autocast("cuda", torch.bfloat16) if self._autocast else nullcontext():
                loss = functional.cross_entropy(self.model(images), labels)
            loss.backward()
        self.optimizer.step()

    def hybrid(self) -> AbstractContextManager[None]:
        """Return a block of hybrid weights; one that does nothing where there are none."""
        if self.quantization is None:
            return nullcontext()
        return self.quantization.hybrid(ratio=RATIO)


def _put_brevitas_layers(model: nn.Module, weights: BrevitasWeights) -> None:
    """Replace every Conv2d and Linear by Brevitas's layer with the same weights, in place."""
    from brevitas.nn import QuantConv2d, QuantLinear
    from brevitas.quant import Int8WeightPerChannelFloat, SignedTernaryWeightPerTensorConst

    how = {
        "ternary per tensor": {"weight_quant": SignedTernaryWeightPerTensorConst},
        "4 bits per channel": {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 4},
    }[weights]
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            bias = getattr(layer, "bias", None) is not None
            if isinstance(layer, nn.Conv2d):
                new = QuantConv2d(
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size,
                    layer.stride,
                    layer.padding,
                    bias=bias,
                    **how,
                )
            elif isinstance(layer, nn.Linear):
                new = QuantLinear(layer.in_features, layer.out_features, bias=bias, **how)
            else:
                continue
            with torch.no_grad():
                new.weight.copy_(layer.weight)
                if bias:
                    new.bias.copy_(layer.bias)
            setattr(parent, name, new)

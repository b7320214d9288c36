"""What one image passes through: the layers of a network, operations and the values between them.

Found out by one run of the network on a black image, below autograd, where every operation shows:
views share their storage, whoever wrote the network. What does not depend on the image is computed
once and for all; it is no operation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sqtune.deploy.sizes.recorder import IMAGE, Call, Record, Recorder
from sqtune.deploy.sizes.steps import Kind, Operation
from sqtune.networks import Network, build
from sqtune.quant.layers import TRANSPOSED, num_rows, quantizable_modules


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that can be quantized.

    Attributes:
        name: Of its module.
        num_rows: Output channels.
        num_weights: Weights in all rows.
        shape: Of its weight.
        macs: Multiply-adds for one image, in all of its uses.
        convolves: Whether it is a convolution.
    """

    name: str
    num_rows: int
    num_weights: int
    shape: tuple[int, ...]
    macs: int
    convolves: bool


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A network as far as its footprint depends on it.

    Attributes:
        layers: In the network's own order.
        other_macs: Multiply-adds without a layer's weights, such as those of attention.
        other_numbers: Float parameters beside weights and biases of layers: of norms that no layer
            takes up, embeddings, ...
        values: Number of elements of each value; the image is the first.
        outputs: Numbers of the values that the network returns.
        operations: In order, the one that makes the image first; the label of a layer's is its
            index.
        calls: torch's operations, in order.
        num_norms: Batch norms that no layer takes up.
    """

    layers: tuple[Layer, ...]
    other_macs: int
    other_numbers: int
    values: tuple[int, ...]
    outputs: frozenset[int]
    operations: tuple[Operation, ...]
    calls: tuple[Call, ...]
    num_norms: int


@lru_cache(maxsize=4096)
def structure(
    network: Network, in_channels: int, num_classes: int, image_size: tuple[int, int]
) -> Structure:
    """Return the structure of a network; each is found out once in a process.

    Raises:
        NetworkError: The network does not suit the images.
    """
    with torch.random.fork_rng(devices=[]):
        model = build(network, in_channels, num_classes, image_size).eval()
    return trace(model, torch.zeros(1, in_channels, *image_size))


def trace(model: nn.Module, image: Tensor) -> Structure:
    """Return the structure of a model in evaluation mode, for a batch of one image."""
    modules = quantizable_modules(model)
    recorder = Recorder([module.get_parameter("weight") for module in modules.values()], image)
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides the layers in one operation
    try:
        with torch.no_grad(), recorder:
            output = model(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    outputs = frozenset(recorder.numbers(tree_leaves(output)))
    layers = tuple(
        _layer(name, module, recorder.macs[index])
        for index, (name, module) in enumerate(modules.items())
    )
    norms = recorder.norms_that_stay()
    return Structure(
        layers,
        recorder.macs[-1],
        _other_parameters(model, modules.values()) + 2 * sum(norms),
        tuple(recorder.values),
        outputs,
        _operations(recorder.steps, outputs),
        tuple(recorder.calls),
        len(norms),
    )


def _layer(name: str, module: nn.Module, macs: int) -> Layer:
    weight = _weight(module)
    convolves = isinstance(module, nn.modules.conv._ConvNd)
    return Layer(name, _num_rows(module), weight.numel(), tuple(weight.shape), macs, convolves)


def _weight(module: nn.Module) -> Tensor:
    return module.get_parameter("weight")


def _num_rows(module: nn.Module) -> int:
    groups = module.groups if isinstance(module, TRANSPOSED) else 0
    return num_rows(_weight(module), groups)


def _other_parameters(model: nn.Module, layers: Iterable[nn.Module]) -> int:
    """Count the parameters of what is neither a layer nor a batch norm, which is folded."""
    known = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            known |= {id(parameter) for parameter in module.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in known)


def _operations(records: list[Record], outputs: Collection[int]) -> tuple[Operation, ...]:
    """Return the operations that make what is returned."""
    needed, kept = set(outputs), []
    for record in reversed(records):
        writes = tuple(number for number in record.writes if number in needed)
        if writes:
            kept.append(Operation(_kind(record), record.layer, record.reads, writes))
            needed.update(record.reads)
    return (Operation("image", -1, (), (IMAGE,)), *reversed(kept))


def _kind(record: Record) -> Kind:
    if record.layer >= 0:
        return "layer"
    if record.moves:
        return "moves"
    return "elements" if record.in_place else "other"

"""What one image passes through: the layers of a network, its steps and the values between them.

Found out by one run of the network on a black image, below autograd, where every operation shows:
views share their storage, whoever wrote the network. What does not depend on the image is computed
once and for all; it is no step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sqtune.deploy.recorder import Call, Record, Recorder
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
    """

    name: str
    num_rows: int
    num_weights: int
    shape: tuple[int, ...]
    macs: int


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on values that depend on the image.

    Attributes:
        reads: Numbers of the values that it reads.
        writes: Numbers of the values that it makes.
        ends: Those of `reads` that nothing reads any more.
        layer: Index of the layer whose weights it uses; -1 for none.
        in_place: Whether it can put its result where an input of the same shape was.
        moves: Whether it only moves elements, so that its inputs need not be finer than its output.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    ends: tuple[int, ...]
    layer: int
    in_place: bool
    moves: bool


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
        steps: In order.
        calls: torch's operations, in order.
        num_norms: Batch norms that no layer takes up.
    """

    layers: tuple[Layer, ...]
    other_macs: int
    other_numbers: int
    values: tuple[int, ...]
    outputs: frozenset[int]
    steps: tuple[Step, ...]
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
    steps, outputs = _steps(recorder.steps, recorder.values, recorder.numbers(tree_leaves(output)))
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
        steps,
        tuple(recorder.calls),
        len(norms),
    )


def _layer(name: str, module: nn.Module, macs: int) -> Layer:
    weight = _weight(module)
    return Layer(name, _num_rows(module), weight.numel(), tuple(weight.shape), macs)


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


def _steps(
    records: list[Record], values: list[int], outputs: Collection[int]
) -> tuple[tuple[Step, ...], frozenset[int]]:
    """Return the steps, each with what it is the last to read, and the values that are returned.

    An element-wise step whose one input nothing else reads acts on each element before it is
    stored: it goes into the step in front of it, and its result takes the place of its input.
    """
    num_readers = Counter(number for record in records for number in record.reads)
    stands_for: dict[int, int] = {}
    kept = []
    for record in records:
        reads = tuple(dict.fromkeys(stands_for.get(number, number) for number in record.reads))
        writes = tuple(w for w in record.writes if num_readers[w] or w in outputs)
        alone = len(reads) == len(writes) == 1 and num_readers[record.reads[0]] == 1
        alike = alone and values[reads[0]] == values[writes[0]] and record.reads[0] not in outputs
        if record.in_place and record.layer < 0 and alike:
            stands_for[writes[0]] = reads[0]
        else:
            kept.append((record, reads, writes))
    returned = frozenset(stands_for.get(number, number) for number in outputs)
    last = {number: index for index, (_, reads, _) in enumerate(kept) for number in reads}
    steps = tuple(
        Step(
            reads,
            writes,
            tuple(number for number in reads if last[number] == index and number not in returned),
            record.layer,
            record.in_place,
            record.moves,
        )
        for index, (record, reads, writes) in enumerate(kept)
    )
    return steps, returned

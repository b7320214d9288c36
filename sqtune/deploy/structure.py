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
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sqtune.networks import Network, build
from sqtune.quant.layers import TRANSPOSED, num_rows, quantizable_modules

aten = torch.ops.aten
IMAGE = 0  # number of the image among the values
BATCH_NORMS = {aten.native_batch_norm, aten._native_batch_norm_legit_no_training}
UNTAGGED = BATCH_NORMS | {aten.hardswish, aten._prelu_kernel}  # element-wise beside torch's own tag
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_fused_attention_overrideable,
}
# The elements of the output are elements of the inputs, and the zeros of padding: quantizing before
# or behind such a step is the same.
MOVING = {
    aten.cat,
    aten.clone,
    aten.constant_pad_nd,
    aten.index_select,
    aten.max_pool2d_with_indices,
    aten.pixel_shuffle,
    aten.stack,
    aten.upsample_nearest2d,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that can be quantized.

    Attributes:
        name: Of its module.
        num_rows: Output channels.
        num_weights: Weights in all rows.
        macs: Multiply-adds for one image, in all of its uses.
    """

    name: str
    num_rows: int
    num_weights: int
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
    """

    layers: tuple[Layer, ...]
    other_macs: int
    other_numbers: int
    values: tuple[int, ...]
    outputs: frozenset[int]
    steps: tuple[Step, ...]


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
    recorder = _Recorder([module.get_parameter("weight") for module in modules.values()], image)
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides the layers in one operation
    try:
        with torch.no_grad(), recorder:
            output = model(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    steps, outputs = _steps(recorder.steps, recorder.values, recorder.numbers(tree_leaves(output)))
    layers = tuple(
        Layer(name, _num_rows(module), _weight(module).numel(), recorder.macs[index])
        for index, (name, module) in enumerate(modules.items())
    )
    return Structure(
        layers,
        recorder.macs[-1],
        _other_parameters(model, modules.values()) + recorder.norm_numbers(),
        tuple(recorder.values),
        outputs,
        steps,
    )


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


@dataclass(slots=True)
class _Record:
    """A step while the run lasts: what becomes of its values is not known yet."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    layer: int
    in_place: bool
    moves: bool
    norm_channels: int  # of a batch norm; else 0


class _Recorder(TorchDispatchMode):
    """Records the operations of a run.

    Attributes:
        values: Number of elements of each value.
        steps: What was done to them.
        macs: Multiply-adds by the index of a layer; under -1 the others.
    """

    def __init__(self, weights: list[Tensor], image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = [image.numel()]
        self.steps: list[_Record] = []
        self.macs: Counter[int] = Counter()
        self._layers = {_storage(weight): index for index, weight in enumerate(weights)}
        self._numbers = {_storage(image): IMAGE}  # storage -> the value that it holds now
        self._kept: list[Tensor] = []  # so that no storage is used twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch's compiler (2 s), which torch would tell to pass us over."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and record it."""
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.numel()]
        self._record(func, args, tensors, made)
        return result

    def numbers(self, tensors: Iterable[Any]) -> tuple[int, ...]:
        """Return the numbers of the values that tensors hold, each once."""
        storages = (_storage(tensor) for tensor in tensors if isinstance(tensor, Tensor))
        found = (self._numbers[storage] for storage in storages if storage in self._numbers)
        return tuple(dict.fromkeys(found))

    def norm_numbers(self) -> int:
        """Count the scales and shifts of the batch norms that no layer in front takes up."""
        num_readers = Counter(number for step in self.steps for number in step.reads)
        made_by = {number: step for step in self.steps for number in step.writes}
        count = 0
        for step in self.steps:
            before = made_by.get(step.reads[0])
            folded = before is not None and before.layer >= 0 and num_readers[step.reads[0]] == 1
            count += 0 if folded else 2 * step.norm_channels
        return count

    def _record(
        self, func: Any, args: tuple[Any, ...], tensors: list[Tensor], made: list[Tensor]
    ) -> None:
        packet = func.overloadpacket
        reads = self.numbers(tensors)
        if not reads:
            return
        self._kept += made
        writes_input = func._schema.is_mutable
        given = {_storage(tensor) for tensor in tensors}
        new = [tensor for tensor in made if writes_input or _storage(tensor) not in given]
        if not new:
            return  # a view
        if len(reads) == 1 and _is_copy(packet, tensors, new):
            self._numbers[_storage(new[0])] = reads[0]
            return
        writes = []
        for tensor in new:
            writes.append(len(self.values))
            self._numbers[_storage(tensor)] = writes[-1]
            whole = tensor.untyped_storage().nbytes() // tensor.element_size()
            self.values.append(whole)
        layers = [
            self._layers[_storage(tensor)] for tensor in tensors if _storage(tensor) in self._layers
        ]
        layer = layers[0] if layers else -1
        self.macs[layer] += _macs(packet, args, tensors, made)
        is_norm = packet in BATCH_NORMS
        self.steps.append(
            _Record(
                reads,
                tuple(writes),
                layer,
                in_place=writes_input or packet in UNTAGGED or torch.Tag.pointwise in func.tags,
                moves=packet in MOVING,
                norm_channels=tensors[0].shape[1] if is_norm else 0,
            )
        )


def _storage(tensor: Tensor) -> int:
    """Return what tells a storage from all others while it lives."""
    return int(tensor.untyped_storage()._cdata)


def _is_copy(packet: Any, tensors: list[Tensor], new: list[Tensor]) -> bool:
    """Tell whether an operation only copies a tensor as it lies: padding by nothing does that."""
    before, after = tensors[0], new[0]
    return (
        packet in (aten.clone, aten.constant_pad_nd, aten._to_copy)
        and (before.shape, before.dtype) == (after.shape, after.dtype)
        and before.stride() == after.stride()
        and before.numel() * before.element_size() == before.untyped_storage().nbytes()
    )


def _macs(packet: Any, args: tuple[Any, ...], tensors: list[Tensor], made: list[Tensor]) -> int:
    """Return the multiply-adds of an operation: those of convolutions and matrix products."""
    if packet is aten.convolution:
        image, weight, transposed = args[0], args[1], args[6]
        places = (image if transposed else made[0]).shape[2:].numel()
        return int(weight.numel() * places)
    if packet in (aten.mm, aten.bmm, aten.addmm, aten.baddbmm):
        left, right = tensors[-2:]
        return left.numel() * right.shape[-1]
    if packet in ATTENTION:
        query, key, value = tensors[:3]
        return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    return 0


def _steps(
    records: list[_Record], values: list[int], outputs: Collection[int]
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

"""Every operation of a network's run on one image, recorded below autograd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


@dataclass(slots=True)
class Record:
    """A step while the run lasts: what becomes of its values is not known yet."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    layer: int
    in_place: bool
    moves: bool
    norm_channels: int  # of a batch norm; else 0


@dataclass(frozen=True, slots=True)
class Call:
    """One of torch's operations on values that depend on the image, those that only view included.

    Attributes:
        name: torch's, such as "relu".
        layer: Index of the layer whose weights it uses; -1 for none.
        num_inputs: Values that it reads.
        num_outputs: Tensors that it returns.
        settings: Of a convolution's padding, stride, dilation and groups, how many are set; of
            padding whether there is any.
    """

    name: str
    layer: int
    num_inputs: int
    num_outputs: int
    settings: int


class Recorder(TorchDispatchMode):
    """Records the operations of a run.

    Attributes:
        calls: Each operation as it was called.
        values: Number of elements of each value.
        steps: What was done to them.
        macs: Multiply-adds by the index of a layer; under -1 the others.
    """

    def __init__(self, weights: list[Tensor], image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.values = [image.numel()]
        self.steps: list[Record] = []
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

    def norms_that_stay(self) -> list[int]:
        """Return the channels of the batch norms that no layer in front takes up."""
        num_readers = Counter(number for step in self.steps for number in step.reads)
        made_by = {number: step for step in self.steps for number in step.writes}
        staying = []
        for step in self.steps:
            before = made_by.get(step.reads[0])
            folded = before is not None and before.layer >= 0 and num_readers[step.reads[0]] == 1
            if step.norm_channels and not folded:
                staying.append(step.norm_channels)
        return staying

    def _record(
        self, func: Any, args: tuple[Any, ...], tensors: list[Tensor], made: list[Tensor]
    ) -> None:
        packet = func.overloadpacket
        reads = self.numbers(tensors)
        if not reads:
            return
        layers = [
            self._layers[_storage(tensor)] for tensor in tensors if _storage(tensor) in self._layers
        ]
        layer = layers[0] if layers else -1
        settings = _settings(packet, args)
        self.calls.append(Call(packet.__name__, layer, len(reads), len(made), settings))
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
        self.macs[layer] += _macs(packet, args, tensors, made)
        is_norm = packet in BATCH_NORMS
        self.steps.append(
            Record(
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


def _settings(packet: Any, args: tuple[Any, ...]) -> int:
    """Return how many settings of a convolution or padding are not the usual ones."""
    if packet is aten.constant_pad_nd:
        return int(any(args[1]))
    if packet is not aten.convolution:
        return 0
    stride, padding, dilation, groups = args[3], args[4], args[5], args[8]
    return sum((any(padding), max(stride) > 1, max(dilation) > 1, groups > 1))


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

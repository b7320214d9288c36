"""What torch's operations other than layers become in a graph.

Known are those of the convolutional networks that sqtune and torchvision have; what else a network
does is refused by the name of its module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from sqtune.deploy.graph import (
    Affine,
    Combine,
    Concat,
    LayerNorm,
    Pad,
    Pointwise,
    Reshape,
    Slice,
    Transpose,
)
from sqtune.deploy.operation import Operation
from sqtune.deploy.windows import adaptive, average_pool, max_pool, mean

aten = torch.ops.aten
SAME = {
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.lift_fresh_copy.default,
}


def same_as(node: fx.Node) -> fx.Node | None:
    """Return the traced value that an operation passes on as it is; None if it does not."""
    args: Any = node.args
    if node.target in SAME:
        return args[0]  # type: ignore[no-any-return]
    if node.target is aten.pad.default and not any(args[1]):
        return args[0]  # type: ignore[no-any-return]
    if node.target is aten.slice.Tensor and args[1:3] == (0, 0) and args[3] == sys.maxsize:
        return args[0]  # type: ignore[no-any-return]
    if node.target is aten.adaptive_avg_pool2d.default:
        before, after = args[0].meta["val"].shape, node.meta["val"].shape
        return args[0] if before[1:] == after[1:] else None
    return None


def _pointwise(function: str, low: float = 0.0, top: float = 0.0) -> Callable[[Operation], int]:
    return lambda operation: operation.make(Pointwise, function=function, low=low, top=top)


def _hardtanh(operation: Operation) -> int:
    low, top = operation.argument(1, -1.0), operation.argument(2, 1.0)
    return operation.make(Pointwise, function="clip", low=float(low), top=float(top))


def _gelu(operation: Operation) -> int:
    if operation.node.kwargs.get("approximate", "none") != "none":
        raise operation.unsupported("with an approximation is not known to any form")
    return operation.make(Pointwise, function="gelu")


def _add(operation: Operation) -> int:
    if operation.node.kwargs.get("alpha", 1) != 1:
        raise operation.unsupported("with a factor is not known to any form")
    return _combine(operation, "add")


def _multiply(operation: Operation) -> int:
    for one, other in ((0, 1), (1, 0)):
        factor = operation.tensor(operation.argument(one))
        if factor is None:
            continue
        number = operation.value(operation.argument(other))
        channels = operation.shape(number)[0]
        if factor.size != channels or factor.shape[-len(operation.shape(number)) :][0] != channels:
            raise operation.unsupported("by a constant that is not one number a channel")
        return operation.make(
            Affine,
            (number,),
            scale_C=factor.reshape(-1),
            shift_C=np.zeros(channels, np.float32),
        )
    return _combine(operation, "mul")


def _combine(operation: Operation, what: str) -> int:
    arguments = [operation.argument(0), operation.argument(1)]
    if not all(isinstance(argument, fx.Node) for argument in arguments) or any(
        operation.tensor(argument) is not None for argument in arguments
    ):
        raise operation.unsupported("with a constant is not known to any form")
    numbers = sorted(
        (operation.value(argument) for argument in arguments),
        key=lambda number: -int(np.prod(operation.shape(number))),
    )
    if operation.shape(numbers[0]) != operation.result_shape():
        raise operation.unsupported("of values that both have to be repeated")
    return operation.make(Combine, tuple(numbers), operation=what)


def _batch_norm(operation: Operation) -> int:
    factor_C, shift_C = operation.norm()
    return operation.make(
        Affine, scale_C=factor_C.astype(np.float32), shift_C=shift_C.astype(np.float32)
    )


def _layer_norm(operation: Operation) -> int:
    size = tuple(operation.argument(1))
    scale, shift = (operation.tensor(operation.argument(index)) for index in (2, 3))
    return operation.make(
        LayerNorm,
        scale=np.ones(size, np.float32) if scale is None else scale,
        shift=np.zeros(size, np.float32) if shift is None else shift,
        epsilon=float(operation.argument(4, 1e-5)),
    )


def _concat(operation: Operation) -> int:
    given: Any = operation.argument(0)
    axis = _behind_batch(operation, operation.argument(1, 0))
    return operation.make(Concat, tuple(operation.value(node) for node in given), axis=axis)


def _slice(operation: Operation) -> int:
    axis = _behind_batch(operation, operation.argument(1, 0))
    if operation.argument(4, 1) != 1:
        raise operation.unsupported("with steps is not known to any form")
    size = operation.shape(operation.input())[axis]
    start, stop, _ = slice(operation.argument(2), operation.argument(3)).indices(size)
    return operation.make(Slice, axis=axis, start=start, stop=stop)


def _parts(operation: Operation) -> tuple[int, ...]:
    """Lower what gives several tensors along a dimension: chunk and split."""
    axis = _behind_batch(operation, operation.argument(2, 0))
    number, numbers, start = operation.input(), [], 0
    results: Any = operation.node.meta["val"]
    for part in results:
        shape = tuple(int(size) for size in part.shape[1:])
        stop = start + shape[axis]
        numbers.append(
            operation.add(
                Slice, (number,), shape, name=operation.place, axis=axis, start=start, stop=stop
            )
        )
        start = stop
    return tuple(numbers)


def _pad(operation: Operation) -> int:
    mode, value = operation.argument(2, "constant"), operation.argument(3)
    if mode != "constant" or value not in (None, 0, 0.0):
        raise operation.unsupported("with anything but zeros is not known to any form")
    flat = list(operation.argument(1))
    around = [(0, 0)] * len(operation.shape(operation.input()))
    for index in range(len(flat) // 2):
        around[-1 - index] = (flat[2 * index], flat[2 * index + 1])
    if any(size < 0 for pair in around for size in pair):
        raise operation.unsupported("by less than nothing is not known to any form")
    return operation.make(Pad, padding=tuple(around))


def _reshape(operation: Operation) -> int:
    return operation.make(Reshape)


def _permute(operation: Operation) -> int:
    return _transposed(operation, list(operation.argument(1)))


def _transpose(operation: Operation) -> int:
    num_dims = len(operation.shape(operation.input())) + 1
    one, other = operation.argument(1) % num_dims, operation.argument(2) % num_dims
    order = list(range(num_dims))
    order[one], order[other] = order[other], order[one]
    return _transposed(operation, order)


def _transposed(operation: Operation, order: list[int]) -> int:
    order = [dim % len(order) for dim in order]
    if order[0] != 0:
        raise operation.unsupported("mixes images with each other")
    return operation.make(Transpose, order=tuple(dim - 1 for dim in order[1:]))


def _behind_batch(operation: Operation, dim: int) -> int:
    given: Any = operation.node.all_input_nodes[0].meta["val"]
    axis: int = dim % given.dim()
    if axis == 0:
        raise operation.unsupported("mixes images with each other")
    return axis - 1


OPERATORS: Mapping[Any, Callable[[Operation], Any]] = {
    aten.relu.default: _pointwise("relu"),
    aten.relu_.default: _pointwise("relu"),
    aten.relu6.default: _pointwise("clip", 0.0, 6.0),
    aten.hardtanh.default: _hardtanh,
    aten.hardtanh_.default: _hardtanh,
    aten.hardswish.default: _pointwise("hardswish"),
    aten.hardswish_.default: _pointwise("hardswish"),
    aten.hardsigmoid.default: _pointwise("hardsigmoid"),
    aten.hardsigmoid_.default: _pointwise("hardsigmoid"),
    aten.sigmoid.default: _pointwise("sigmoid"),
    aten.silu.default: _pointwise("silu"),
    aten.silu_.default: _pointwise("silu"),
    aten.tanh.default: _pointwise("tanh"),
    aten.gelu.default: _gelu,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.mul.Tensor: _multiply,
    aten.mul_.Tensor: _multiply,
    aten.batch_norm.default: _batch_norm,
    aten.layer_norm.default: _layer_norm,
    aten.max_pool2d.default: max_pool,
    aten.avg_pool2d.default: average_pool,
    aten.adaptive_avg_pool2d.default: adaptive,
    aten.mean.dim: mean,
    aten.cat.default: _concat,
    aten.slice.Tensor: _slice,
    aten.chunk.default: _parts,
    aten.split.Tensor: _parts,
    aten.split_with_sizes.default: _parts,
    aten.pad.default: _pad,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.flatten.using_ints: _reshape,
    aten.reshape.default: _reshape,
    aten.squeeze.dim: _reshape,
    aten.unflatten.int: _reshape,
    aten.unsqueeze.default: _reshape,
    aten.view.default: _reshape,
}

"""Pooling of all kinds: torch's windows as windows with padding that is written out."""

from __future__ import annotations

from typing import Any

from sqtune.deploy.graph import Concat, Mean, Pad, Pool, Slice
from sqtune.deploy.operation import Operation


def max_pool(operation: Operation) -> int:
    """Lower a maximum over windows."""
    if any(size != 1 for size in _pair(operation.argument(4, 1))):
        raise operation.unsupported("with dilation is not known to any form")
    return _pool(operation, "max", operation.input(), _pair(operation.argument(3, 0)))


def average_pool(operation: Operation) -> int:
    """Lower an average over windows; padding that counts is written as zeros around."""
    number, padding = operation.input(), _pair(operation.argument(3, 0))
    if operation.argument(6) is not None:
        raise operation.unsupported("with a divisor of its own is not known to any form")
    if any(padding) and operation.argument(5, True):
        if operation.argument(4, False):
            raise operation.unsupported("that rounds up and counts padding")
        channels, *sizes = operation.shape(number)
        around = ((0, 0), *((p, p) for p in padding))
        shape = (channels, *(size + 2 * p for size, p in zip(sizes, padding, strict=True)))
        number = operation.add(Pad, (number,), shape, name=operation.place, padding=around)
        padding = (0, 0)
    return _pool(operation, "average", number, padding)


def _pool(operation: Operation, kind: str, number: int, padding: tuple[int, ...]) -> int:
    """Add a pooling; the padding behind is what its windows reach, where torch rounds up."""
    kernel = _pair(operation.argument(1))
    stride = _pair(operation.argument(2) or kernel)
    sizes, results = operation.shape(number)[1:], operation.result_shape()[1:]
    around = tuple(
        (before, (result - 1) * step + window - size - before)
        for size, result, window, step, before in zip(
            sizes, results, kernel, stride, padding, strict=True
        )
    )
    # a window may end in front of the last element, which is cut off then
    number = _cut(operation, number, [min(0, after) for _, after in around])
    return operation.make(
        Pool,
        (number,),
        kind=kind,
        kernel=kernel,
        stride=stride,
        padding=tuple((before, max(0, after)) for before, after in around),
    )


def _cut(operation: Operation, number: int, beyond: list[int]) -> int:
    for axis, excess in enumerate(beyond, start=1):
        if excess:
            shape = list(operation.shape(number))
            shape[axis] += excess
            number = operation.add(
                Slice,
                (number,),
                tuple(shape),
                name=operation.place,
                axis=axis,
                start=0,
                stop=shape[axis],
            )
    return number


def adaptive(operation: Operation) -> int:
    """Lower an average to a given size, where all windows are of one size."""
    number = operation.input()
    (channels, *sizes), results = operation.shape(number), operation.result_shape()[1:]
    if all(result == 1 for result in results):
        return operation.make(Mean, (number,), keep=True)
    if all(size == 1 for size in sizes):
        for axis, result in enumerate(results, start=1):
            shape = (channels, *results[:axis], *sizes[axis:])
            inputs = (number,) * result
            number = operation.add(Concat, inputs, shape, name=operation.place, axis=axis)
        return number
    if any(size % result for size, result in zip(sizes, results, strict=True)):
        raise operation.unsupported(
            f"from {'x'.join(map(str, sizes))} to {'x'.join(map(str, results))} has windows of "
            "different sizes (images of another size may suit it)"
        )
    kernel = tuple(size // result for size, result in zip(sizes, results, strict=True))
    around = ((0, 0),) * len(kernel)
    return operation.make(
        Pool, (number,), kind="average", kernel=kernel, stride=kernel, padding=around
    )


def mean(operation: Operation) -> int:
    """Lower an average over all of the image's dimensions."""
    given = operation.shape(operation.input())
    dims = sorted(dim % (len(given) + 1) for dim in operation.argument(1))
    if dims != list(range(2, len(given) + 1)):
        raise operation.unsupported("over other dimensions than the image's")
    return operation.make(Mean, keep=bool(operation.argument(2, False)))


def _pair(value: Any) -> tuple[int, ...]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return pair * 2 if len(pair) == 1 else pair

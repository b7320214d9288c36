"""Graphs built by hand or at random, without torch: thousands a second, of every kind of node."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sqtune.deploy.graph import (
    Affine,
    Combine,
    Concat,
    Conv,
    Graph,
    Grid,
    LayerNorm,
    Linear,
    Mean,
    Node,
    Packed,
    Pad,
    Pointwise,
    Pool,
    Quantize,
    Reshape,
    Slice,
    Transpose,
)
from sqtune.quant import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
)

QUANTIZERS: list[Quantizer] = [
    Float(),
    Binary(),
    *(Ternary(threshold=threshold) for threshold in ("layer_centred", "layer", "row")),
    LearnedTernary(),
    *(kind(bits=bits) for kind in (Uniform, LearnedUniform) for bits in range(2, 9)),
]


def size_of(extent: int, window: int, stride: int, around: tuple[int, int], dilation: int = 1):
    return (extent + sum(around) - dilation * (window - 1) - 1) // stride + 1


class Builder:
    """A graph as it grows; values are known by their numbers, 0 is the image."""

    def __init__(self, shape: tuple[int, ...] = (3, 8, 8), seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.shapes = [shape]

    def add(
        self, node: type[Node], inputs: tuple[int, ...], shape: tuple[int, ...], /, **more: Any
    ) -> int:
        self.shapes.append(shape)
        output = len(self.shapes) - 1
        name = f"{node.__name__.lower()}{output}"
        self.nodes.append(node(name=name, inputs=inputs, output=output, **more))
        return output

    def weight(self, shape: tuple[int, ...], quantizer: Quantizer) -> Packed | np.ndarray:
        rows, num_inputs = shape[0], int(np.prod(shape[1:]))
        if quantizer == Float():
            return self.rng.normal(0, num_inputs**-0.5, shape).astype(np.float32)
        match quantizer:
            case Binary():
                codes, offset = self.rng.choice([-1, 1], shape), 0.0
            case Ternary() | LearnedTernary():
                codes, offset = self.rng.integers(-1, 2, shape), 0.0
            case Uniform(bits=2) | LearnedUniform(bits=2):
                codes, offset = self.rng.integers(-2, 2, shape), 0.5
            case Uniform(bits=bits) | LearnedUniform(bits=bits):
                top = 2 ** (bits - 1) - 1
                codes, offset = self.rng.integers(-top, top + 1, shape), 0.0
        size = np.sqrt(num_inputs * ((codes + offset) ** 2).mean() + 1e-9)
        scale_O = self.rng.uniform(0.5, 1.5, rows) * self.rng.choice([-1, 1, 1], rows) / size
        source = f"weight{len(self.shapes)}"
        return Packed(source, quantizer, codes.astype(np.int8), scale_O.astype(np.float32), offset)

    def bias(self, rows: int) -> np.ndarray:
        return self.rng.normal(0, 0.2, rows).astype(np.float32)

    def conv(
        self,
        x: int,
        rows: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        padding: tuple[int, int] | None = None,
        quantizer: Quantizer = Binary(),  # noqa: B008
    ) -> int:
        channels, *sizes = self.shapes[x]
        num = len(sizes)
        around = padding if padding is not None else (dilation * (kernel // 2),) * 2
        made = [size_of(size, kernel, stride, around, dilation) for size in sizes]
        return self.add(
            Conv,
            (x,),
            (rows, *made),
            weight=self.weight((rows, channels // groups, *[kernel] * num), quantizer),
            bias_O=self.bias(rows),
            stride=(stride,) * num,
            padding=(around,) * num,
            dilation=(dilation,) * num,
            groups=groups,
        )

    def linear(self, x: int, rows: int, quantizer: Quantizer = Binary()) -> int:  # noqa: B008
        *more, width = self.shapes[x]
        weight = self.weight((rows, width), quantizer)
        return self.add(Linear, (x,), (*more, rows), weight=weight, bias_O=self.bias(rows))

    def same(self, node: type[Node], x: int, /, **more: Any) -> int:
        return self.add(node, (x,), self.shapes[x], **more)

    def relu(self, x: int) -> int:
        return self.same(Pointwise, x, function="relu")

    def quantize(self, x: int, bits: int, *, signed: bool = False, step: float = 0.0) -> int:
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        grid = Grid(bits, -top if signed else 0, top, float(np.float32(step or 2.5 / top)))
        return self.same(Quantize, x, grid=grid)

    def combine(self, x: int, y: int, operation: str = "add") -> int:
        return self.add(Combine, (x, y), self.shapes[x], operation=operation)

    def affine(self, x: int) -> int:
        channels = self.shapes[x][0]
        scale_C = self.rng.uniform(-0.5, 1.5, channels).astype(np.float32)
        return self.same(Affine, x, scale_C=scale_C, shift_C=self.bias(channels))

    def layer_norm(self, x: int, num_dims: int = 1) -> int:
        shape = self.shapes[x][-num_dims:]
        scale = self.rng.uniform(0.5, 1.5, shape).astype(np.float32)
        shift = self.rng.normal(0, 0.2, shape).astype(np.float32)
        return self.same(LayerNorm, x, scale=scale, shift=shift, epsilon=1e-6)

    def pool(
        self,
        x: int,
        kind: str = "max",
        window: int = 2,
        stride: int = 2,
        around: tuple[int, int] = (0, 0),
    ) -> int:
        channels, *sizes = self.shapes[x]
        shape = (channels, *(size_of(size, window, stride, around) for size in sizes))
        num = len(sizes)
        about = {"kernel": (window,) * num, "stride": (stride,) * num, "padding": (around,) * num}
        return self.add(Pool, (x,), shape, kind=kind, **about)

    def mean(self, x: int, *, keep: bool = False) -> int:
        channels, *sizes = self.shapes[x]
        return self.add(
            Mean, (x,), (channels, *[1] * len(sizes)) if keep else (channels,), keep=keep
        )

    def concat(self, *x: int, axis: int = 0) -> int:
        shape = list(self.shapes[x[0]])
        shape[axis] = sum(self.shapes[number][axis] for number in x)
        return self.add(Concat, x, tuple(shape), axis=axis)

    def slice(self, x: int, start: int, stop: int, axis: int = 0) -> int:
        shape = list(self.shapes[x])
        shape[axis] = stop - start
        return self.add(Slice, (x,), tuple(shape), axis=axis, start=start, stop=stop)

    def pad(self, x: int, *around: tuple[int, int]) -> int:
        sizes = zip(self.shapes[x], around, strict=True)
        return self.add(Pad, (x,), tuple(size + sum(pair) for size, pair in sizes), padding=around)

    def reshape(self, x: int, *shape: int) -> int:
        return self.add(Reshape, (x,), shape)

    def flatten(self, x: int) -> int:
        return self.reshape(x, int(np.prod(self.shapes[x])))

    def transpose(self, x: int, *order: int) -> int:
        return self.add(Transpose, (x,), tuple(self.shapes[x][dim] for dim in order), order=order)

    def graph(self, output: int) -> Graph:
        channels, classes = self.shapes[0][0], self.shapes[output][0]
        names = tuple(f"class {index}" for index in range(classes))
        mean = tuple(0.4 + 0.05 * index for index in range(channels))
        return Graph(tuple(self.nodes), tuple(self.shapes), output, names, mean, (0.3,) * channels)


def every_layer(quantizer: Quantizer | list[Quantizer], bits: int = 0, seed: int = 0) -> Graph:
    """Return a network with each kind of layer; with inputs on grids if `bits` are given."""
    given = itertools.cycle(quantizer if isinstance(quantizer, list) else [quantizer])
    build = Builder(seed=seed)

    def conv(x: int, rows: int, kernel: int = 3, **more: Any) -> int:
        if bits:
            x = build.quantize(x, 8 if x == 0 else bits, signed=x == 0)
        return build.conv(x, rows, kernel, quantizer=next(given), **more)

    x = build.relu(conv(0, 8))
    block = build.relu(conv(x, 12, stride=2))
    block = build.relu(conv(block, 12, groups=12))
    block = conv(block, 12, groups=3)
    x = build.relu(build.combine(block, conv(x, 12, 1, stride=2)))
    x = build.relu(conv(x, 16, padding=(0, 1)))
    x = build.flatten(build.pool(x))
    if bits:
        x = build.quantize(x, bits)
    return build.graph(build.linear(x, 7, next(given)))


def pixels(num: int, shape: tuple[int, ...] = (3, 8, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8)

"""Random small graphs of every node kind that the C form knows."""

from __future__ import annotations

from math import prod

import numpy as np
from other_weights import QUANTIZERS, drawn_codes

from sqtune.deploy.graph import (
    Affine,
    Combine,
    Concat,
    Conv,
    Graph,
    Grid,
    Linear,
    Mean,
    Packed,
    Pad,
    Pointwise,
    Pool,
    Quantize,
    Reshape,
    Slice,
    Transpose,
)
from sqtune.quant import Float

FUNCTIONS = ["relu", "clip", "sigmoid", "hardsigmoid", "hardswish", "silu", "gelu", "tanh"]


class RandomGraph:
    """Adds nodes until there are enough, then a head."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        shape = (self.draw(1, 4), self.draw(3, 12), self.draw(3, 12))
        self.nodes, self.shapes = [], [shape]
        self.grids = self.random.random() < 0.7
        for _ in range(self.draw(3, 14)):
            self.step()
        self.head()

    def draw(self, low, top):
        return int(self.random.integers(low, top + 1))

    def graph(self) -> Graph:
        channels = self.shapes[0][0]
        classes = tuple(f"class {index}" for index in range(self.shapes[-1][0]))
        return Graph(
            tuple(self.nodes),
            tuple(self.shapes),
            len(self.shapes) - 1,
            classes,
            (0.4,) * channels,
            (0.3,) * channels,
        )

    def add(self, kind, inputs, shape, /, **fields):
        self.shapes.append(tuple(int(size) for size in shape))
        number = len(self.shapes) - 1
        name = f"{kind.__name__.lower()}.{number}"
        self.nodes.append(kind(name=name, inputs=tuple(inputs), output=number, **fields))
        return number

    def images(self):
        """Return the numbers of the values that still are images, the last ones first."""
        return [n for n in reversed(range(len(self.shapes))) if len(self.shapes[n]) == 3]

    def step(self):
        images = self.images()
        given = images[0] if self.random.random() < 0.7 else int(self.random.choice(images))
        shape = self.shapes[given]
        kinds = [self.conv, self.conv, self.conv, self.pointwise, self.affine, self.combine]
        kinds += [self.squeeze, self.pool, self.pool, self.concat, self.slice, self.pad]
        kinds += [self.transpose, self.reshape, self.round, self.round]
        self.random.choice(np.array(kinds, object))(given, shape)

    def round(self, given, shape):
        self.rounded(given)

    def rounded(self, given):
        if not self.grids or self.random.random() < 0.2:
            return given
        bits = int(self.random.choice([2, 4, 8]))
        signed = self.random.random() < 0.5
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        step = float(np.float32((2.0 if signed else 3.0) / top * self.random.uniform(0.5, 1.2)))
        grid = Grid(bits, -top if signed else 0, top, step)
        return self.add(Quantize, (given,), self.shapes[given], grid=grid)

    def weight(self, shape):
        quantizer = QUANTIZERS[self.draw(0, len(QUANTIZERS) - 1)]
        size = 1.5 / np.sqrt(prod(shape[1:]))
        if isinstance(quantizer, Float):
            return self.random.normal(0, size, shape).astype(np.float32)
        codes, offset = drawn_codes(quantizer, shape, self.random)
        scale = size / np.sqrt(np.mean((codes + offset) ** 2) + 1e-6)
        scale_O = self.random.uniform(0.5, 1.5, shape[0]) * scale
        scale_O *= self.random.choice([-1, 1], shape[0])
        name = f"layer.{len(self.shapes)}.weight"
        return Packed(name, quantizer, codes, scale_O.astype(np.float32), offset)

    def biases(self, num):
        return self.random.normal(0, 0.3, num).astype(np.float32)

    def conv(self, given, shape):
        channels, *sizes = shape
        groups = int(self.random.choice([g for g in (1, 2, 3, channels) if channels % g == 0]))
        rows = groups * self.draw(1, 3)
        kernel, stride = [self.draw(1, 3), self.draw(1, 3)], [self.draw(1, 2), self.draw(1, 2)]
        if self.random.random() < 0.5:
            kernel, stride = [3, 3], [1, 1]
        dilation = [self.draw(1, 2), self.draw(1, 2)] if self.random.random() < 0.3 else [1, 1]
        padding = [(self.draw(0, 2), self.draw(0, 2)) for _ in range(2)]
        if self.random.random() < 0.5:
            padding = [(size // 2, size // 2) for size in kernel]
        made = [
            (size + sum(around) - step * (width - 1) - 1) // jump + 1
            for size, around, width, jump, step in zip(
                sizes, padding, kernel, stride, dilation, strict=True
            )
        ]
        if min(made) < 1:
            return
        self.add(
            Conv,
            (self.rounded(given),),
            (rows, *made),
            weight=self.weight((rows, channels // groups, *kernel)),
            bias_O=self.biases(rows),
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            groups=groups,
        )

    def pointwise(self, given, shape):
        function = FUNCTIONS[self.draw(0, len(FUNCTIONS) - 1)]
        self.add(Pointwise, (given,), shape, function=function, low=-0.5, top=1.5)

    def affine(self, given, shape):
        scale, shift = self.biases(shape[0]) + 1, self.biases(shape[0])
        self.add(Affine, (given,), shape, scale_C=scale, shift_C=shift)

    def combine(self, given, shape):
        like = [n for n in range(len(self.shapes)) if self.shapes[n] == shape]
        operation = str(self.random.choice(["add", "mul"]))
        other = int(self.random.choice(like))
        pair = (given, other) if self.random.random() < 0.5 else (other, given)
        self.add(Combine, pair, shape, operation=operation)

    def squeeze(self, given, shape):
        mean = self.add(Mean, (given,), (shape[0], 1, 1), keep=True)
        gate = self.add(Pointwise, (mean,), (shape[0], 1, 1), function="hardsigmoid")
        self.add(Combine, (given, gate), shape, operation="mul")

    def pool(self, given, shape):
        kernel, stride = (self.draw(1, 3), self.draw(1, 3)), (self.draw(1, 2), self.draw(1, 2))
        padding = tuple((self.draw(0, w // 2), self.draw(0, w // 2)) for w in kernel)
        made = [
            (size + sum(around) - width) // jump + 1
            for size, around, width, jump in zip(shape[1:], padding, kernel, stride, strict=True)
        ]
        if min(made) < 1:
            return
        kind = str(self.random.choice(["max", "average"]))
        made = (shape[0], *made)
        self.add(Pool, (given,), made, kind=kind, kernel=kernel, stride=stride, padding=padding)

    def concat(self, given, shape):
        axis = self.draw(0, 2)
        rest = [size for dim, size in enumerate(shape) if dim != axis]
        like = [
            number
            for number in self.images()
            if [size for dim, size in enumerate(self.shapes[number]) if dim != axis] == rest
        ]
        chosen = [given, *(int(n) for n in self.random.choice(like, self.draw(1, 2)))]
        made = list(shape)
        made[axis] = sum(self.shapes[number][axis] for number in chosen)
        if prod(made) < 3000:
            self.add(Concat, chosen, made, axis=axis)

    def slice(self, given, shape):
        axis = self.draw(0, 2)
        start = self.draw(0, shape[axis] - 1)
        stop = self.draw(start + 1, shape[axis])
        made = list(shape)
        made[axis] = stop - start
        self.add(Slice, (given,), made, axis=axis, start=start, stop=stop)

    def pad(self, given, shape):
        padding = tuple((self.draw(0, 1), self.draw(0, 1)) for _ in shape)
        made = [size + sum(around) for size, around in zip(shape, padding, strict=True)]
        self.add(Pad, (given,), made, padding=padding)

    def transpose(self, given, shape):
        order = tuple(int(dim) for dim in self.random.permutation(3))
        self.add(Transpose, (given,), [shape[dim] for dim in order], order=order)

    def reshape(self, given, shape):
        if shape[0] % 2 == 0:
            self.add(Reshape, (given,), (shape[0] // 2, shape[1] * 2, shape[2]))

    def head(self):
        given = self.images()[0]
        shape = self.shapes[given]
        flat = self.add(Reshape, (given,), (prod(shape),))
        if self.random.random() < 0.5:
            flat = self.add(Mean, (given,), (shape[0],), keep=False)
        rows = self.draw(2, 6)
        weight = self.weight((rows, self.shapes[flat][0]))
        rounded = self.rounded(flat)
        self.add(Linear, (rounded,), (rows,), weight=weight, bias_O=self.biases(rows))

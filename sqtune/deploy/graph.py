"""A network as it is deployed: nodes in order, batch norm folded in, weights as codes and scales.

What every form (ONNX, C, torch) is written from. Values are numbered; number 0 is the normalised
image. Shapes leave the batch out.

Shape names: O output channels, C channels.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from sqtune.quant import Quantizer

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]
PoolKind = Literal["max", "average"]
Function = Literal["relu", "clip", "sigmoid", "hardsigmoid", "hardswish", "silu", "gelu", "tanh"]
IMAGE = 0  # number of the normalised image among the values


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A layer's weights as integers: weight == (codes + offset) * scale_O, bit for bit.

    Attributes:
        source: Name of the parameter, such as "stem.weight".
        quantizer: What made the codes.
        codes: In the weight's own shape, O first.
        scale_O: One scale a row, batch norm folded in; may be negative.
        offset: 0.5 for the 2-bit grid, otherwise 0.
    """

    source: str
    quantizer: Quantizer
    codes: Codes
    scale_O: Floats
    offset: float

    @property
    def levels(self) -> Codes:
        """Whole numbers for codes + offset: twice as much on the 2-bit grid (-3, -1, 1, 3)."""
        return (2 * self.codes + 1).astype(np.int8) if self.offset else self.codes

    @property
    def level_scale_O(self) -> Floats:
        """What `levels` are multiplied by; halving is exact."""
        return self.scale_O * np.float32(0.5) if self.offset else self.scale_O

    def values(self) -> Floats:
        """Return the weights as float32, in their own shape."""
        scale = self.level_scale_O.reshape(-1, *[1] * (self.codes.ndim - 1))
        return self.levels.astype(np.float32) * scale


Weight = Packed | Floats


@dataclass(frozen=True, slots=True)
class Grid:
    """Whole numbers for activations: value == code * step, code from `low` to `top`.

    Attributes:
        bits: 2, 4 or 8.
        low: 0, or -top where values may be negative; -128 for all codes of a byte.
        top: The largest code.
        step: A float32 above 0.
    """

    bits: int
    low: int
    top: int
    step: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Node:
    """One operation.

    Attributes:
        name: Of the module it comes from, for messages and tables.
        inputs: Numbers of the values it reads.
        output: Number of the value it makes.
    """

    name: str
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Conv(Node):
    """A convolution over the image's dimensions (1 to 3), padded with zeros.

    Attributes:
        weight: O x C/groups x kernel.
        bias_O: float32.
        stride, dilation: One a dimension.
        padding: (before, after) of each dimension.
        groups: Of channels.
    """

    weight: Weight
    bias_O: Floats
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Linear(Node):
    """A matrix product over the last dimension: weight O x K, bias_O."""

    weight: Weight
    bias_O: Floats


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quantize(Node):
    """Rounds (half to even) onto a grid and clips to its ends; what comes out are float values."""

    grid: Grid


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pointwise(Node):
    """A function of each element; "clip" to [low, top]."""

    function: Function
    low: float = 0.0
    top: float = 0.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Combine(Node):
    """Sum or product of two values, the second of which may have 1 in some dimensions."""

    operation: Literal["add", "mul"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Affine(Node):
    """scale_C * x + shift_C: a batch norm that no layer takes up; C is the first dimension."""

    scale_C: Floats
    shift_C: Floats


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pool(Node):
    """Maximum or average over windows. What is padded counts for neither.

    Attributes:
        padding: (before, after) of each dimension.
    """

    kind: PoolKind
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mean(Node):
    """Average over all dimensions but the first; `keep` leaves them there with one element."""

    keep: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerNorm(Node):
    """Normalises over the last dimensions, those of `scale`; then scale * x + shift."""

    scale: Floats
    shift: Floats
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Concat(Node):
    """Values one after the other along a dimension (0 is the first behind the batch)."""

    axis: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Slice(Node):
    """Elements from `start` to `stop` along a dimension (0 is the first behind the batch)."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pad(Node):
    """Zeros around; `padding` is (before, after) of each dimension behind the batch."""

    padding: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same elements in another shape: that of the output."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Transpose(Node):
    """Dimensions in another order; `order` counts from 0, the first behind the batch."""

    order: tuple[int, ...]


Layer = Conv | Linear


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as it is deployed.

    Attributes:
        nodes: Each behind those whose values it reads.
        shapes: Of each value, without the batch.
        output: Number of the value that holds the logits.
        classes: Class names, one per logit.
        mean: Input normalisation, per channel, of values in 0..1.
        std: Likewise.
        in_integers: Whether it was calibrated to be computed in whole numbers: the biases of layers
            whose inputs are on a grid are whole multiples of input step x weight scale.
    """

    nodes: tuple[Node, ...]
    shapes: tuple[tuple[int, ...], ...]
    output: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_integers: bool = False

    @property
    def layers(self) -> list[Layer]:
        """The convolutions and linear layers, in order."""
        return [node for node in self.nodes if isinstance(node, Conv | Linear)]

    @cached_property
    def num_readers(self) -> Counter[int]:
        """How many nodes read each value; the end counts as one for the output."""
        return Counter([number for node in self.nodes for number in node.inputs] + [self.output])

    @cached_property
    def made_by(self) -> dict[int, Node]:
        """The node that makes each value but the image."""
        return {node.output: node for node in self.nodes}

    @property
    def num_rounded(self) -> int:
        """Activations of an image that are put on a grid."""
        grids = (node for node in self.nodes if isinstance(node, Quantize))
        return sum(math.prod(self.shapes[node.output]) for node in grids)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image."""
        return self.shapes[IMAGE]

    @property
    def pixel_mean_C(self) -> Floats:
        """What is subtracted from pixels of 0..255; then they are multiplied by `pixel_scale_C`."""
        return np.float32(255) * np.array(self.mean, np.float32)

    @property
    def pixel_scale_C(self) -> Floats:
        """What a pixel of 0..255 less its channel's mean is multiplied by."""
        return np.float32(1) / (np.float32(255) * np.array(self.std, np.float32))

    def grid_of(self, number: int) -> Grid | None:
        """Return the grid that a value is on, also behind what only moves values; None if none."""
        node = self.made_by.get(number)
        if isinstance(node, Quantize):
            return node.grid
        return self.grid_of(node.inputs[0]) if node is not None and keeps_grid(node) else None


def keeps_grid(node: Node) -> bool:
    """Return whether what a node makes of values on one grid is on that grid."""
    if isinstance(node, Pool):
        return node.kind == "max"
    if isinstance(node, Pointwise):
        return node.function == "relu"
    return isinstance(node, Concat | Pad | Reshape | Slice | Transpose)

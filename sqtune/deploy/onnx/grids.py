"""Activations on grids: which layers compute with integers, and what rounds onto a grid.

Codes stand in the file as uint8, shifted to the left as far as they go: a layer's biases are whole
numbers of (step of its inputs x scale of its weights), which would be too coarse for few bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sqtune.deploy.graph import (
    Graph,
    Grid,
    Layer,
    Linear,
    Node,
    Packed,
    Pointwise,
    Quantize,
    keeps_grid,
)
from sqtune.deploy.onnx.writer import OnnxWriter


def integer_grids(graph: Graph) -> dict[int, Grid]:
    """Return the grids of values that stand in the file as integers, by their numbers.

    Those are what Quantize nodes make, and what only moves or picks it. A grid that a layer with
    float weights reads too is left out, and rounded to with float operations: between integers the
    runtime would quantize that layer's weights, unasked.

    No value is one in a network that was trained on grids: to round its biases to whole multiples
    of input step x weight scale moved activations to the next level in up to half of all images,
    and summing whole numbers apart from them (`ConvInteger`) took 7 times as long as floats. It is
    rounded with float operations throughout, exactly as it was trained.
    """
    if not graph.in_integers:
        return {}
    made_by, in_float = graph.made_by, set[int]()
    while True:
        grids = _grids(graph, in_float)
        found = {
            root
            for layer in graph.layers
            if not isinstance(layer.weight, Packed) or layer.inputs[0] not in grids
            for root in _roots(made_by, layer.inputs[0])
        }
        if found <= in_float:
            return grids
        in_float |= found


def _grids(graph: Graph, in_float: set[int]) -> dict[int, Grid]:
    grids: dict[int, Grid] = {}
    for node in graph.nodes:
        if isinstance(node, Quantize):
            if node.output not in in_float:
                grids[node.output] = node.grid
        elif keeps_grid(node):
            given = {grids.get(number) for number in node.inputs}
            grid = given.pop()
            if not given and grid is not None:
                grids[node.output] = grid
    return grids


def _roots(made_by: dict[int, Node], number: int) -> Iterator[int]:
    """Yield the Quantize nodes' values that a value is made of."""
    node = made_by.get(number)
    if isinstance(node, Quantize):
        yield number
    elif node is not None and keeps_grid(node):
        for given in node.inputs:
            yield from _roots(made_by, given)


@dataclass(frozen=True, slots=True)
class Shifted:
    """A grid's codes as they stand in the file: (code - low) << shift.

    Attributes:
        shift: In bits.
        zero: What stands for code 0.
        largest: What stands for the top.
        step: float32; value == (number - zero) * step, bit for bit the grid's code * step.
    """

    shift: int
    zero: int
    largest: int
    step: np.float32


def shifted(grid: Grid) -> Shifted:
    """Return how a grid's codes stand in the file."""
    top = grid.top - grid.low
    shift = 8 - top.bit_length()
    step = np.float32(grid.step) / np.float32(1 << shift)
    return Shifted(shift, -grid.low << shift, top << shift, step)


def to_integers(writer: OnnxWriter, x: str, grid: Grid) -> str:
    """Round to uint8 numbers."""
    stands = shifted(grid)
    zero = writer.number(-grid.low, np.uint8)
    numbers = writer.node("QuantizeLinear", x, writer.floats(grid.step), zero)
    top = grid.top - grid.low
    if top < np.iinfo(np.uint8).max:
        ends = writer.number(0, np.uint8), writer.number(top, np.uint8)
        numbers = writer.node("Clip", numbers, *ends)
    if stands.shift:
        by = writer.number(stands.shift, np.uint8)
        numbers = writer.node("BitShift", numbers, by, direction="LEFT")
    return numbers


def from_integers(writer: OnnxWriter, numbers: str, grid: Grid) -> str:
    """Return the values that uint8 numbers stand for."""
    stands = shifted(grid)
    step = writer.constant(np.array(stands.step)) if stands.shift else writer.floats(grid.step)
    return writer.node("DequantizeLinear", numbers, step, writer.number(stands.zero, np.uint8))


def in_floats(writer: OnnxWriter, x: str, grid: Grid) -> str:
    """Round to the same values with float operations."""
    step = writer.floats(grid.step)
    codes = writer.node("Round", writer.node("Div", x, step))
    ends = writer.floats(grid.low), writer.floats(grid.top)
    return writer.node("Mul", writer.node("Clip", codes, *ends), step)


def may_be_fused(graph: Graph, grids: Mapping[int, Grid], layer: Layer) -> bool:
    """Return whether ONNX Runtime may compute a layer with integers, given that its inputs are.

    A product of matrices always; a convolution where its results go to a grid, which the runtime
    also moves forward past pooling and the like. It would round float biases on its own then.
    """
    if isinstance(layer, Linear):
        return len(graph.shapes[layer.output]) == 1
    reached = {layer.output}
    for node in graph.nodes:
        if reached.isdisjoint(node.inputs):
            continue
        if isinstance(node, Quantize):
            if node.output in grids:
                return True
        elif isinstance(node, Pointwise) or keeps_grid(node):
            reached.add(node.output)
    return False

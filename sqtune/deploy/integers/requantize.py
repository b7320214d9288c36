"""A float graph with its regions -> the graph that runs in integers: Quantize nodes put in.

Which values are needed as floats and which on a grid is worked out from the logits back; only those
are made. A float layer reads values that were never rounded: with rounded inputs and results,
ONNX Runtime would round its weights to 8 bits as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sqtune.deploy.graph import (
    IMAGE,
    Conv,
    Floats,
    Graph,
    Grid,
    Layer,
    Linear,
    Mean,
    Node,
    Packed,
    Quantize,
    Reshape,
)
from sqtune.deploy.integers.regions import Regions, moves

FLOAT = 0  # where a number of bits is asked for
WIDE = 8  # bits of what no layer reads, and of the first and the last layer's inputs
LARGEST_WHOLE = 2**22  # that float32 holds times a step, to far below a half
LARGEST_PAIR = 2**15 - 1  # sum of two products that 16 bits hold

Demands = dict[int, set[int]]  # bits in which each value is needed


@dataclass(frozen=True, slots=True)
class GridKey:
    """Whose grid: a region's, in one number of bits."""

    region: int
    bits: int


def in_order_of_fusion(graph: Graph) -> Graph:
    """Return the same network with means that keep their dimensions, and reshapes behind them.

    The rounding of a mean stands between the two, right behind the operation it belongs to.
    """
    nodes: list[Node] = []
    shapes = list(graph.shapes)
    for node in graph.nodes:
        if isinstance(node, Mean) and not node.keep:
            shape = shapes[node.inputs[0]]
            shapes.append((shape[0], *[1] * (len(shape) - 1)))
            between = len(shapes) - 1
            nodes.append(replace(node, keep=True, output=between))
            nodes.append(Reshape(name=node.name, inputs=(between,), output=node.output))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), shapes=tuple(shapes))


def demands(graph: Graph, regions: Regions, bits: int) -> Demands:
    """Return in how many bits each value is needed (FLOAT, WIDE or `bits`)."""
    needed: Demands = {number: set() for number in range(len(graph.shapes))}
    needed[graph.output].add(FLOAT)
    for node in reversed(graph.nodes):
        for wanted in (WIDE, bits, FLOAT):  # what is rounded is needed as a float first
            if wanted in needed[node.output]:
                for number, given in _reads(graph, regions, node, wanted, bits):
                    needed[number].add(given)
    return needed


def tops(graph: Graph, regions: Regions, needed: Demands, bits: int) -> dict[GridKey, int]:
    """Return the largest code of every grid.

    x86 processors without dot products of bytes (no VNNI) add pairs of products in 16 bits and cut
    the sum off. Where 8-bit weights could come to that the grid ends earlier, at 129 at the worst.
    """
    found = {}
    for number, kinds in needed.items():
        for wanted in kinds - {FLOAT}:
            key = GridKey(regions.of[number], wanted)
            is_signed = key.region in regions.signed
            found[key] = 2 ** (wanted - 1) - 1 if is_signed else 2**wanted - 1
    for layer in graph.layers:
        if layer.output in regions.layers:
            given = layer.inputs[0]
            key = GridKey(regions.of[given], layer_bits(graph, layer, bits))
            assert isinstance(layer.weight, Packed)
            largest = int(np.abs(layer.weight.levels.astype(np.int32)).max(initial=1))
            width = LARGEST_PAIR // (2 * largest)
            is_signed = key.region in regions.signed
            found[key] = min(found[key], width // 2 if is_signed else width)
    return found


def layer_bits(graph: Graph, layer: Node, bits: int) -> int:
    """Return the bits of a layer's inputs: the first and the last one's are WIDE."""
    return WIDE if layer in (graph.layers[0], graph.layers[-1]) else bits


def quantized(
    graph: Graph, regions: Regions, needed: Demands, grids: Mapping[GridKey, Grid], bits: int
) -> Graph:
    """Return the graph with its Quantize nodes.

    Args:
        graph: The float graph.
        regions: Its regions.
        needed: What `demands` returned.
        grids: Of each region in each number of bits that is needed.
        bits: Of the inputs of layers between the first and the last.
    """
    writing = _Writing(graph, regions, grids, bits)
    for wanted in sorted(needed[IMAGE] - {FLOAT}):
        writing.quantize("", IMAGE, FLOAT, IMAGE, wanted)
    for node in graph.nodes:
        for wanted in sorted(needed[node.output]):
            writing.write(node, wanted)
    return writing.graph()


class _Writing:
    def __init__(
        self, graph: Graph, regions: Regions, grids: Mapping[GridKey, Grid], bits: int
    ) -> None:
        self._graph, self._regions, self._grids, self._bits = graph, regions, grids, bits
        self._made = {(IMAGE, FLOAT): IMAGE}  # new numbers of values in so many bits
        self._shapes = [graph.shapes[IMAGE]]
        self._nodes: list[Node] = []

    def write(self, node: Node, wanted: int) -> None:
        """Write what makes a node's value in so many bits."""
        reads = _reads(self._graph, self._regions, node, wanted, self._bits)
        if wanted != FLOAT and node.output not in self._regions.moved:
            ((number, given),) = reads
            self.quantize(node.name, number, given, node.output, wanted)
            return
        inputs = tuple(self._made[read] for read in reads)
        new = replace(node, inputs=inputs, output=self._number(node.output, wanted))
        if isinstance(new, Conv | Linear) and node.output in self._regions.layers:
            number, given = reads[0]
            step = self._grids[GridKey(self._regions.of[number], given)].step
            new = replace(new, bias_O=whole_bias(new, step))
        self._nodes.append(new)

    def quantize(self, name: str, number: int, given: int, made: int, wanted: int) -> None:
        """Write the rounding of a value."""
        grid = self._grids[GridKey(self._regions.of[made], wanted)]
        inputs = (self._made[number, given],)
        output = self._number(made, wanted)
        self._nodes.append(Quantize(name=name, inputs=inputs, output=output, grid=grid))

    def graph(self) -> Graph:
        """Return what was written."""
        output = self._made[self._graph.output, FLOAT]
        nodes, shapes = tuple(self._nodes), tuple(self._shapes)
        return replace(self._graph, nodes=nodes, shapes=shapes, output=output, in_integers=True)

    def _number(self, number: int, wanted: int) -> int:
        self._shapes.append(self._graph.shapes[number])
        self._made[number, wanted] = len(self._shapes) - 1
        return len(self._shapes) - 1


def whole_bias(layer: Layer, step: float) -> Floats:
    """Return biases as whole multiples of level scale x step, the unit of integer sums.

    So every form that sums integers has the biases that this graph has. A row that is almost
    switched off, with a scale of about 0, keeps its bias: a whole number cannot hold it.
    """
    assert isinstance(layer.weight, Packed)
    unit_O = layer.weight.level_scale_O * np.float32(step)
    sizes_O = np.where(unit_O == 0, 1, unit_O).astype(np.float64)
    whole_O = np.rint(layer.bias_O / sizes_O)
    is_exact_O = (unit_O != 0) & (np.abs(whole_O) < LARGEST_WHOLE)
    rounded_O: Floats = np.where(is_exact_O, whole_O * unit_O, layer.bias_O).astype(np.float32)
    return rounded_O


def _reads(
    graph: Graph, regions: Regions, node: Node, wanted: int, bits: int
) -> list[tuple[int, int]]:
    """Return what is read to make a node's value in so many bits: (number, bits) of each."""
    number = node.output
    if wanted != FLOAT:
        if number in regions.moved:
            return [(given, wanted) for given in node.inputs]
        if number in regions.absorbed:
            return [(node.inputs[0], FLOAT)]
        return [(number, FLOAT)]
    match node:
        case Conv() | Linear() if number in regions.layers:
            return [(node.inputs[0], layer_bits(graph, node, bits))]
        case Conv() | Linear():
            return [(node.inputs[0], FLOAT)]
        case _ if moves(node):
            return [(given, FLOAT) for given in node.inputs]
        case _ if number in regions.absorbed:
            return [(node.inputs[0], FLOAT)]
    return [(given, WIDE if regions.is_integer(given) else FLOAT) for given in node.inputs]

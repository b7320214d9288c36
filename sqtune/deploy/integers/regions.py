"""Which values of a float graph become whole numbers, and which of them share one grid.

ONNX Runtime runs an operation in integers where everything it reads and what it makes is on a grid.
So the inputs and the results of every layer with packed weights are, and from there on each sum,
product and average whose inputs are. Operations that only move elements keep their input's grid:
values that are tied by them form a region, which has one grid, so that nothing is rounded twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqtune.deploy.graph import (
    IMAGE,
    Combine,
    Concat,
    Graph,
    Layer,
    Linear,
    Mean,
    Node,
    Packed,
    Pad,
    Pointwise,
    Pool,
    Reshape,
    Slice,
    Transpose,
)


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Values that share a grid.

    Attributes:
        of: The region of each value, named by one of its values.
        integer: Regions whose values are on a grid.
        signed: Regions with a value that may be negative.
        layers: Numbers of what the layers make that run in integers.
        moved: Numbers of values on a grid that come of their inputs' codes without any rounding.
        absorbed: Numbers of what ReLUs make that a grid which begins at 0 does as well.
        ceilings: Where the grid of a region has to end, for some that absorb a clip.
    """

    of: tuple[int, ...]
    integer: frozenset[int]
    signed: frozenset[int]
    layers: frozenset[int]
    moved: frozenset[int]
    absorbed: frozenset[int]
    ceilings: dict[int, float]

    def is_integer(self, number: int) -> bool:
        """Whether a value is on a grid."""
        return self.of[number] in self.integer


def regions(graph: Graph) -> Regions:
    """Return the regions of a graph without any Quantize."""
    return _Finding(graph).found()


def moves(node: Node) -> bool:
    """Whether a node's results are elements of its inputs, and zeros."""
    is_max = isinstance(node, Pool) and node.kind == "max"
    return is_max or isinstance(node, Concat | Slice | Pad | Reshape | Transpose)


class _Finding:
    """Regions as they grow together; each is named by its first value."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._parent = list(range(len(graph.shapes)))
        self._integer: set[int] = set()
        self._signed = {number for number, never in enumerate(_never_negative(graph)) if not never}
        for node in graph.nodes:
            if moves(node):
                for number in node.inputs:
                    self._tie(number, node.output)
        self._layers = [layer for layer in graph.layers if self._has_a_kernel(layer)]

    def found(self) -> Regions:
        for layer in self._layers:
            self._put_on_grids(layer.inputs[0], layer.output)
        while self._spread() or self._tie_relus():
            pass
        nodes = self._graph.nodes
        of = tuple(self._region(number) for number in range(len(self._graph.shapes)))
        moved = {
            node.output
            for node in nodes
            if self._is_integer(node.output)
            and (moves(node) or (_is_relu(node) and of[node.inputs[0]] == of[node.output]))
        }
        num_sources = Counter(region for number, region in enumerate(of) if number not in moved)
        absorbed, ceilings = set(), {}
        for node in nodes:
            region = of[node.output]
            if node.output in moved or not self._is_integer(node.output) or region in self._signed:
                continue
            match node:
                case Pointwise(function="relu") if self._reads_alone(node):
                    absorbed.add(node.output)
                case Pointwise(function="clip", low=0.0, top=top) if (
                    self._reads_alone(node) and num_sources[region] == 1
                ):
                    absorbed.add(node.output)
                    ceilings[region] = top
                case _:
                    pass
        return Regions(
            of=of,
            integer=frozenset(self._integer),
            signed=frozenset(self._signed),
            layers=frozenset(layer.output for layer in self._layers),
            moved=frozenset(moved),
            absorbed=frozenset(absorbed),
            ceilings=ceilings,
        )

    def _spread(self) -> bool:
        """Put on grids what sums, products, averages and ReLUs make of values on grids."""
        before = len(self._integer)
        for node in self._graph.nodes:
            given = [self._is_integer(number) for number in node.inputs]
            match node:
                case Combine() if any(given) and self._is_integer(node.output):
                    self._put_on_grids(*node.inputs)
                case Combine() | Mean() | Pool(kind="average") if all(given):
                    self._put_on_grids(node.output)
                case Pointwise(function="relu" | "clip") if given[0] and self._reads_alone(node):
                    self._put_on_grids(node.output)
                case _:
                    pass
        return len(self._integer) > before

    def _tie_relus(self) -> bool:
        """Let ReLUs work on codes where no grid can do their work; say whether some do now."""
        tied = False
        for node in self._graph.nodes:
            if not _is_relu(node):
                continue
            given, made = self._region(node.inputs[0]), self._region(node.output)
            if given == made or not {given, made} <= self._integer:
                continue
            if made in self._signed or not self._reads_alone(node):
                self._tie(given, made)
                tied = True
        return tied

    def _has_a_kernel(self, layer: Layer) -> bool:
        """Whether a layer can run in integers: packed, and no logits where codes would have to be.

        A matrix product may give the logits itself.
        """
        if not isinstance(layer.weight, Packed):
            return False
        logits, given = self._region(self._graph.output), self._region(layer.inputs[0])
        if isinstance(layer, Linear):
            return len(self._graph.shapes[layer.inputs[0]]) == 1 and given != logits
        return logits not in (given, self._region(layer.output))

    def _put_on_grids(self, *numbers: int) -> None:
        logits = self._region(self._graph.output)
        self._integer |= {self._region(number) for number in numbers} - {logits}

    def _is_integer(self, number: int) -> bool:
        return self._region(number) in self._integer

    def _reads_alone(self, node: Node) -> bool:
        return self._graph.num_readers[node.inputs[0]] == 1

    def _region(self, number: int) -> int:
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    def _tie(self, one: int, other: int) -> None:
        first, second = sorted((self._region(one), self._region(other)))
        if first == second:
            return
        self._parent[second] = first
        for regions_with in (self._integer, self._signed):
            if second in regions_with:
                regions_with.remove(second)
                regions_with.add(first)


def _is_relu(node: Node) -> bool:
    return isinstance(node, Pointwise) and node.function == "relu"


def _never_negative(graph: Graph) -> list[bool]:
    """Return, for each value, whether its maker cannot give anything below 0."""
    never = [False] * len(graph.shapes)
    never[IMAGE] = False
    for node in graph.nodes:
        match node:
            case Pointwise(function="relu" | "sigmoid" | "hardsigmoid"):
                never[node.output] = True
            case Pointwise(function="clip", low=low):
                never[node.output] = low >= 0
            case Combine() | Mean() | Pool():
                never[node.output] = all(never[number] for number in node.inputs)
            case _ if moves(node):
                never[node.output] = all(never[number] for number in node.inputs)
            case _:
                pass
    return never

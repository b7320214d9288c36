"""A graph -> its steps and the place of each value in the arena of the C form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from sqtune.deploy.graph import (
    IMAGE,
    Affine,
    Combine,
    Concat,
    Conv,
    Graph,
    Grid,
    Linear,
    Mean,
    Node,
    Pad,
    Pointwise,
    Pool,
    Quantize,
    Reshape,
    Slice,
    Transpose,
)
from sqtune.deploy.sizes.arena import Arena, arena
from sqtune.deploy.sizes.steps import Kind, Operation, Step, steps
from sqtune.errors import ExportError

ELEMENTS = (Pointwise, Combine, Affine)
MOVES = (Concat, Pad, Transpose, Slice)
OTHERS = (Pool, Mean)
IMAGE_LABEL = -1


@dataclass(frozen=True, slots=True)
class View:
    """Where elements are read: `start` is the first, `grid` what codes stand for (None: float32).

    Attributes:
        value: Number of the value.
        start: Element of it.
        offset: Byte of the arena where the value begins.
        bits: Of an element.
        grid: Of its codes.
    """

    value: int
    start: int
    offset: int
    bits: int
    grid: Grid | None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is done in which order, and where values lie.

    Attributes:
        graph: What is planned.
        steps: In order; an operation's label is the index of its node, -1 for the image's.
        numbers: Elements of each value.
        arena: Of values.
        output: The value that holds the logits.
    """

    graph: Graph
    steps: tuple[Step, ...]
    numbers: tuple[int, ...]
    arena: Arena
    output: int

    def node(self, operation: Operation) -> Node:
        """Return the node that an operation stands for (not for the image's)."""
        return self.graph.nodes[operation.label]

    def read(self, operation: Operation, index: int = 0) -> View:
        """Return where an operation's input lies."""
        start = operation.starts[index] if operation.starts else 0
        return self.view(operation.reads[index], start)

    def view(self, value: int, start: int = 0) -> View:
        """Return where a value lies."""
        grid = None
        if value in self.arena.sources:
            node = self.graph.nodes[self.arena.sources[value]]
            assert isinstance(node, Quantize)
            grid = node.grid
        return View(value, start, self.arena.offsets[value], self.arena.bits[value], grid)


def plan(graph: Graph) -> Plan:
    """Return the plan of a graph.

    Raises:
        ExportError: It has a node that the C form does not know; the message names it.
    """
    graph = _uncut(graph)
    numbers = [prod(shape) for shape in graph.shapes]
    roots = {IMAGE: (IMAGE, 0)}  # what a value is part of, and the element where it begins
    operations = [Operation("image", IMAGE_LABEL, (), (IMAGE,))]
    for label, node in enumerate(graph.nodes):
        if _is_view(node, graph):
            value, start = roots[node.inputs[0]]
            if isinstance(node, Slice):
                start += node.start * prod(graph.shapes[node.output][1:])
            roots[node.output] = value, start
            continue
        roots[node.output] = node.output, 0
        found = [roots[number] for number in node.inputs]
        operations.append(
            Operation(
                _kind(node),
                label,
                tuple(value for value, _ in found),
                (node.output,),
                node.grid.bits if isinstance(node, Quantize) else 32,
                tuple(start for _, start in found),
                not isinstance(node, Slice)
                and all(
                    numbers[number] == numbers[value]
                    for number, (value, _) in zip(node.inputs, found, strict=True)
                ),
            )
        )
    output, start = roots[graph.output]
    if start or numbers[output] != numbers[graph.output]:
        raise ExportError("the C form cannot return a part of a value. Take --form onnx.")
    planned = steps(operations, numbers, {output})
    placed = arena(planned, numbers, {output})
    return Plan(graph, tuple(planned), tuple(numbers), placed, output)


def _uncut(graph: Graph) -> Graph:
    """Let pooling read values whole: what is cut off in front of it no window reaches anyway."""
    stands_for: dict[int, int] = {}
    pooled: set[int] = set()  # values that only a pooling reads
    for node in reversed(graph.nodes):
        cuts = isinstance(node, Slice) and node.axis > 0 and node.start == 0
        if cuts and node.output in pooled:
            stands_for[node.output] = node.inputs[0]
        elif not isinstance(node, Pool):
            continue
        pooled |= {number for number in node.inputs if graph.num_readers[number] == 1}
    nodes = []
    for node in graph.nodes:
        number = node.inputs[0]
        while number in stands_for:
            number = stands_for[number]
        if node.output not in stands_for:
            nodes.append(replace(node, inputs=(number, *node.inputs[1:])))
    return replace(graph, nodes=tuple(nodes))


def _is_view(node: Node, graph: Graph) -> bool:
    """Tell whether a node's elements lie in its input as they are."""
    match node:
        case Reshape() | Slice(axis=0):
            return True
        case Concat(inputs=inputs):
            return len(inputs) == 1
        case Pad(padding=padding):
            return not any(size for pair in padding for size in pair)
        case Transpose(order=order):
            shape = graph.shapes[node.inputs[0]]
            moved = [dim for dim in order if shape[dim] != 1]
            return moved == sorted(moved)
    return False


def _kind(node: Node) -> Kind:
    if isinstance(node, Quantize):
        return "quantize"
    if isinstance(node, Conv | Linear):
        return "layer"
    if isinstance(node, ELEMENTS):
        return "elements"
    if isinstance(node, MOVES) or (isinstance(node, Pool) and node.kind == "max"):
        return "moves"
    if isinstance(node, OTHERS):
        return "other"
    raise unsupported(node, f"{type(node).__name__} is not known to the C form")


def unsupported(node: Node, problem: str) -> ExportError:
    """Return the error that names a node and says what to do."""
    return ExportError(f"{node.name or 'the network'}: {problem}. Take --form onnx.")

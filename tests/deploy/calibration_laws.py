"""What tests of calibration ask of a graph."""

from __future__ import annotations

from sqtune.deploy.graph import Pointwise, Quantize
from sqtune.deploy.integers.regions import moves


def grids(graph):
    """Return the grid of every value that is on one, as operations hand them on."""
    found = {}
    for node in graph.nodes:
        if isinstance(node, Quantize):
            found[node.output] = node.grid
        elif moves(node) or (isinstance(node, Pointwise) and node.function == "relu"):
            given = [found.get(number) for number in node.inputs]
            if given[0] is not None and all(grid == given[0] for grid in given):
                found[node.output] = given[0]
    return found

"""Graphs that were trained on grids, made ready for integers: their biases rounded."""

from __future__ import annotations

from dataclasses import replace

from calibration_laws import grids

from sqtune.deploy.graph import Conv, Graph, Linear, Packed
from sqtune.deploy.integers.requantize import whole_bias


def whole(graph: Graph) -> Graph:
    """Return a graph whose layers on grids have biases in whole units, as calibration makes it."""
    on, nodes = grids(graph), []
    for node in graph.nodes:
        made = node
        if isinstance(node, Conv | Linear) and isinstance(node.weight, Packed):
            grid = on.get(node.inputs[0])
            if grid is not None:
                made = replace(node, bias_O=whole_bias(node, grid.step))
        nodes.append(made)
    return replace(graph, nodes=tuple(nodes), in_integers=True)

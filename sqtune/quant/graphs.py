"""CUDA graphs: a step of many small kernels is captured once and replayed as one launch."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

MOST_GRAPHS = 4  # ratios whose graphs are kept; a graph keeps its temporary tensors


class GraphCache:
    """Captures functions that read and write the same tensors at each call, and replays them.

    Args:
        generator: The CUDA generator they draw from: its state advances with each replay.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._seen: Hashable = object()

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Run a step: as it is the first time, captured when its key comes again.

        Inside somebody else's capture it runs as it is and becomes part of theirs.
        """
        if torch.cuda.is_current_stream_capturing():
            step()
            return
        graph = self._graphs.get(key)
        if graph is None and key != self._seen:  # also the warm-up that a capture needs
            self._seen = key
            step()
            return
        if graph is None:
            if len(self._graphs) >= MOST_GRAPHS:
                self._graphs.clear()
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            with torch.cuda.graph(graph):
                step()
            self._graphs[key] = graph
        graph.replay()

"""CUDA graphs: a step of many small kernels is captured once and replayed as one launch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

MOST_GRAPHS = 4  # ratios whose graphs are kept; a graph keeps its temporary tensors


class GraphCache:
    """Captures functions that read and write the same tensors at each call, and replays them.

    Args:
        generator: The CUDA generator they draw from: its state advances with each replay.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._forget()

    def _forget(self) -> None:
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Callable[[], None]]] = {}
        self._seen: Hashable = object()

    def __getstate__(self) -> dict[str, Any]:
        return {"_generator": self._generator}  # graphs cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._generator = state["_generator"]
        self._forget()

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Run a step: as it is the first time, captured when its key comes again.

        Capturing waits for the device; replaying does not. Inside somebody else's capture the step
        runs as it is and becomes part of theirs.

        Args:
            key: Steps of equal keys do the same to the same tensors.
            step: What to run; kept with its graph, which uses the step's own tensors.
        """
        if torch.cuda.is_current_stream_capturing():
            step()
            return
        if key not in self._graphs:
            if key != self._seen:  # also the warm-up that a capture needs
                self._seen = key
                step()
                return
            if len(self._graphs) >= MOST_GRAPHS:
                torch.cuda.synchronize()  # the last replay may still be under way
                self._graphs.clear()
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            with torch.cuda.graph(graph):
                step()
            self._graphs[key] = graph, step
        self._graphs[key][0].replay()

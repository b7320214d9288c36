"""CUDA graphs: a step of many small kernels is captured once and replayed as one launch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch

MOST_GRAPHS = 4  # that are kept; the temporary tensors of all of them share one pool
REPEATS = 20  # of a step as it is, in a row, before it is worth a capture


class GraphCache:
    """Captures functions that read and write the same tensors at each call, and replays them.

    Args:
        generator: The CUDA generator they draw from: its state advances with each replay.
        device: Where they run.
    """

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self._generator, self._device = generator, device
        self._reset()

    def _reset(self) -> None:
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Callable[[], None]]] = {}
        self._last: Hashable = object()
        self._repeats = 0
        self._pool: Any = None
        self._usable = True

    def __getstate__(self) -> dict[str, Any]:
        return {"generator": self._generator, "device": self._device}  # graphs cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def forget(self) -> None:
        """Let go of all graphs, once the last replay has ended."""
        if self._graphs:
            torch.cuda.synchronize(self._device)
            self._graphs.clear()

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Run a step: as it is at first, captured when it has come often enough in a row.

        Capturing waits for the device; replaying does not. Inside somebody else's capture the step
        runs as it is and becomes part of theirs. Where a capture fails, steps go on as they are.

        Args:
            key: Steps of equal keys do the same to the same tensors.
            step: What to run; kept with its graph, which uses the step's own tensors.
        """
        with torch.cuda.device(self._device):
            if key in self._graphs and not torch.cuda.is_current_stream_capturing():
                self._graphs[key][0].replay()
                return
            self._repeats = self._repeats + 1 if key == self._last else 0
            self._last = key
            often = self._usable and self._repeats >= REPEATS
            if not often or torch.cuda.is_current_stream_capturing():
                step()
                return
            graph = self._captured(step)
            if graph is None:
                step()
                return
            if len(self._graphs) >= MOST_GRAPHS:
                self.forget()
            self._graphs[key] = graph, step
            graph.replay()

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Return a step's graph; None, with a warning, where it cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            self._usable = False
            warnings.warn(
                f"Stochastic Quantization runs without CUDA graphs, which costs time only: {error}",
                stacklevel=2,
            )
            return None
        return graph

"""Integer activations for networks that were trained with float ones, from training images.

A grid for every value that ONNX Runtime has to see in whole numbers: unsigned where the value can
never be negative, symmetric otherwise. Where grids end is tried out: the clipping method whose
logits on the images come closest to the float network's is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sqtune.deploy.graph import Graph, Grid, Packed, Quantize
from sqtune.deploy.integers.clipping import METHODS, SQUARED_ERROR, step
from sqtune.deploy.integers.observe import BATCH, Histogram, joined, observe
from sqtune.deploy.integers.regions import Regions, regions
from sqtune.deploy.integers.requantize import (
    FLOAT,
    Demands,
    GridKey,
    demands,
    in_order_of_fusion,
    quantized,
    tops,
)
from sqtune.deploy.run import run
from sqtune.errors import ExportError

BITS = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A graph that runs in integers.

    Attributes:
        graph: With its Quantize nodes.
        method: How grids of the bits that were asked for are clipped, a name in
            `sqtune.deploy.integers.clipping.METHODS`. Where those are 4 or 2, the 8-bit grids
            beside them have the smallest squared error.
        errors: Of each method that was tried: the mean square of how far logits on the calibration
            images are from the float graph's.
        kept_float: Names of layers with packed weights that do not run in integers (no kernel).
    """

    graph: Graph
    method: str
    errors: dict[str, float]
    kept_float: tuple[str, ...]


def calibrate(graph: Graph, pixels: Tensor, bits: int = 8) -> Graph:
    """Return a float-activation graph with its activations on grids; the logits stay float.

    The inputs of the first and the last layer, and what no layer reads, are in 8 bits always.
    Weights are untouched; biases become whole multiples of the unit of integer sums. The same
    images give the same graph.

    Args:
        graph: As `lower` returned it.
        pixels: Training images, uint8, N x C x H x W: some hundreds.
        bits: Of activations: 8, 4 or 2.

    Raises:
        ExportError: The network was trained with low-bit activations, has no packed weights or
            gives values that are not finite.
    """
    return calibrated(graph, pixels, bits).graph


def calibrated(
    graph: Graph, pixels: Tensor, bits: int = 8, *, batch_size: int = BATCH
) -> Calibrated:
    """Return what `calibrate` does, and how it came about."""
    _refuse(graph, pixels, bits)
    graph = in_order_of_fusion(graph)
    seen = observe(graph, pixels, batch_size)
    batches = pixels.split(batch_size)
    wanted = [run(graph, batch) for batch in batches]
    plan = _Plan.of(graph, seen, bits)
    tried = {method: plan.quantized(method) for method in METHODS}
    errors = {
        method: _squared_error(candidate, batches, wanted) for method, candidate in tried.items()
    }
    method = min(errors, key=lambda name: errors[name])
    names = tuple(
        layer.name
        for layer in graph.layers
        if isinstance(layer.weight, Packed) and layer.output not in plan.regions.layers
    )
    return Calibrated(tried[method], method, errors, names)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Everything about a calibrated graph but the steps of its grids."""

    graph: Graph
    bits: int
    regions: Regions
    needed: Demands
    tops: dict[GridKey, int]
    seen: dict[int, Histogram]  # by region

    @classmethod
    def of(cls, graph: Graph, seen: dict[int, Histogram], bits: int) -> _Plan:
        found = regions(graph)
        needed = demands(graph, found, bits)
        together: dict[int, Histogram] = {}
        for number, one in seen.items():
            region = found.of[number]
            if number not in found.moved and needed[number] - {FLOAT}:
                together[region] = joined(together[region], one) if region in together else one
        return cls(graph, bits, found, needed, tops(graph, found, needed, bits), together)

    def quantized(self, method: str) -> Graph:
        grids = {}
        for key, top in self.tops.items():
            ceiling = self.regions.ceilings.get(key.region)
            how = SQUARED_ERROR if key.bits != self.bits else method
            size = step(how, self.seen[key.region], top, ceiling)
            low = lowest(top) if key.region in self.regions.signed else 0
            grids[key] = Grid(key.bits, low, top, size)
        return quantized(self.graph, self.regions, self.needed, grids, self.bits)


def lowest(top: int) -> int:
    """Return the smallest code of a signed grid: all of a byte, so that nothing has to be clipped.

    A step is set by the largest |x|: code -128 is for what is beyond everything seen.
    """
    return -128 if top == 127 else -top


def _squared_error(graph: Graph, batches: tuple[Tensor, ...], wanted: list[Tensor]) -> float:
    """Return the mean squared difference between logits."""
    total = sum(
        float((run(graph, batch) - logits).double().square().sum())
        for batch, logits in zip(batches, wanted, strict=True)
    )
    return total / sum(logits.numel() for logits in wanted)


def _refuse(graph: Graph, pixels: Tensor, bits: int) -> None:
    if bits not in BITS:
        raise ExportError(f"activations have 8, 4 or 2 bits, not {bits}: give --activations int8.")
    if any(isinstance(node, Quantize) for node in graph.nodes):
        raise ExportError(
            "this network was trained with low-bit activations and is exported as trained: leave "
            "out --activations."
        )
    if not any(isinstance(layer.weight, Packed) for layer in graph.layers):
        raise ExportError(
            "all weights of this network are float, so no layer of it runs in integers. Train it "
            "with quantizer uniform of 8 bits or fewer, or leave out --activations."
        )
    shape = (len(pixels), *graph.image_shape)
    if pixels.dtype != torch.uint8 or tuple(pixels.shape) != shape or not len(pixels):
        raise ExportError(
            f"calibration takes at least one image of {graph.image_shape} in uint8, not "
            f"{pixels.dtype} of {tuple(pixels.shape)}."
        )

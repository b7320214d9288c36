"""What the values of a graph look like on images: a histogram of the sizes of each one's elements.

One pass, images in batches, a fixed number of bins a value: memory does not grow with the images.
Bins are a power of two wide, and double where a larger element comes along: the counts are those of
all images at once, whatever the batches were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sqtune.deploy.graph import Concat, Graph, Pad, Reshape, Slice, Transpose
from sqtune.deploy.run import values
from sqtune.errors import ExportError

NUM_BINS = 8192
BATCH = 64
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often |x| lies in [i * width, (i + 1) * width), for i below NUM_BINS.

    Attributes:
        counts: NUM_BINS whole numbers.
        width: A power of two.
        largest: The largest |x|.
    """

    counts: Counts
    width: float
    largest: float

    def with_width(self, width: float) -> Histogram:
        """Return the same counts in bins that are 2, 4, 8 ... times as wide."""
        counts = self.counts
        for _ in range(round(math.log2(width / self.width))):
            counts = counts.reshape(-1, 2).sum(axis=1)
        return Histogram(_filled_up(counts), width, self.largest)


def joined(one: Histogram, other: Histogram) -> Histogram:
    """Return the histogram of two values together.

    >>> both = joined(histogram(torch.tensor([0.3, -1.0])), histogram(torch.tensor([100.0])))
    >>> both.largest, both.counts.sum().item()
    (100.0, 3)
    """
    width = max(one.width, other.width)
    one, other = one.with_width(width), other.with_width(width)
    return Histogram(one.counts + other.counts, width, max(one.largest, other.largest))


def histogram(x: Tensor) -> Histogram:
    """Return the histogram of a tensor, in the narrowest bins that hold it.

    Raises:
        ExportError: It has elements that are not finite.
    """
    size = x.detach().abs().flatten()
    largest = float(size.max()) if len(size) else 0.0
    if not math.isfinite(largest):
        raise ExportError("has elements that are not finite.")
    _, exponent = math.frexp(largest)  # largest < 2 ** exponent
    width = 2.0 ** max(exponent - round(math.log2(NUM_BINS)), -126)
    counts = torch.bincount((size / width).to(torch.int32), minlength=NUM_BINS)
    return Histogram(counts.numpy(), width, largest)


def observe(graph: Graph, pixels: Tensor, batch_size: int = BATCH) -> dict[int, Histogram]:
    """Return the histogram of every value that is not made by moving elements alone.

    Args:
        graph: What is run, in float32.
        pixels: Images, uint8, N x C x H x W.
        batch_size: Images that are run at once.

    Raises:
        ExportError: A value is not finite; the message names the layer.
    """
    moved = (Concat, Pad, Reshape, Slice, Transpose)
    skipped = {node.output for node in graph.nodes if isinstance(node, moved)}
    seen: dict[int, Histogram] = {}
    for batch in pixels.split(batch_size):
        for number, value in values(graph, batch):
            if number in skipped:
                continue
            try:
                new = histogram(value)
            except ExportError as error:
                place = graph.made_by[number].name
                raise ExportError(f"{place}: what it gives on training images {error}") from error
            seen[number] = joined(seen[number], new) if number in seen else new
    return seen


def _filled_up(counts: Counts) -> Counts:
    return np.pad(counts, (0, NUM_BINS - len(counts)))

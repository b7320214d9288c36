"""Where to clip: the step of a grid from a histogram of what it is for.

`max` clips nothing, percentiles give up the largest elements, `squared error` tries many steps and
takes the one whose rounding and clipping together cost least on the histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from sqtune.deploy.integers.observe import Histogram

NUM_TRIED, SMALLEST_SHARE = 120, 0.02  # clipping points, and the smallest as a share of the largest
SQUARED_ERROR = "squared error"

Clipping = Callable[[Histogram, int], float]


def largest(seen: Histogram, top: int) -> float:
    """Return the largest |x|: nothing is clipped."""
    del top
    return seen.largest


def percentile(share: float) -> Clipping:
    """Return what gives the |x| that this share of the elements does not exceed."""

    def clipping(seen: Histogram, top: int) -> float:
        del top
        index = int(np.searchsorted(np.cumsum(seen.counts), share * seen.counts.sum()))
        return min(seen.largest, (index + 1) * seen.width)

    return clipping


def squared_error(seen: Histogram, top: int) -> float:
    """Return the clipping point whose squared error is the smallest on the histogram."""
    tried = seen.largest * np.geomspace(1, SMALLEST_SHARE, NUM_TRIED)
    sizes = (np.arange(len(seen.counts)) + 0.5) * seen.width
    sizes[0] = 0.0  # mostly what a ReLU has cut off
    last = int(np.flatnonzero(seen.counts)[-1]) + 1
    sizes, counts = sizes[:last], seen.counts[:last]
    errors = [_squared_error(sizes, counts, float(point) / top, top) for point in tried]
    return float(tried[int(np.argmin(errors))])


METHODS: Mapping[str, Clipping] = {
    "max": largest,
    "99.99 %": percentile(0.9999),
    "99.9 %": percentile(0.999),
    "99.5 %": percentile(0.995),
    "98 %": percentile(0.98),
    SQUARED_ERROR: squared_error,
}


def step(method: str, seen: Histogram, top: int, ceiling: float | None = None) -> float:
    """Return the step of a grid that ends at `top`, a float32 above 0.

    Args:
        method: A name in `METHODS`.
        seen: What the grid is for.
        top: The largest code.
        ceiling: What top * step may not exceed.

    >>> import torch
    >>> from sqtune.deploy.integers.observe import histogram
    >>> step("max", histogram(torch.tensor([0.0, 1.0, 127.5])), 255)
    0.5
    """
    point = METHODS[method](seen, top) if seen.largest > 0 else 0.0
    found = np.float32(point / top)
    if ceiling is not None:
        found = min(found, np.float32(ceiling / top))
        while np.float32(top) * found > ceiling:
            found = np.nextafter(found, np.float32(0))
    smallest = np.finfo(np.float32).tiny
    return float(found) if found > smallest else 1.0  # nothing but zeros: any step will do


def _squared_error(
    sizes: npt.NDArray[np.floating], counts: npt.NDArray[np.int64], step: float, top: int
) -> float:
    levels = np.minimum(np.rint(sizes / step), top)
    return float(np.dot(counts, np.square(levels * step - sizes)))

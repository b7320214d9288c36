"""How well the order at an early epoch foretells the order at the end."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from _trainings import Training
from scipy.stats import rankdata

FEWEST = 4  # trainings in a group, for a rank correlation or a median
Compare = Callable[[Sequence["Point"]], "float | None"]


@dataclass(frozen=True, slots=True)
class Point:
    """A training at an epoch: what was measured there, and what it came to.

    Attributes:
        early: The metric at the epoch.
        ratio: Of the epoch (0..1).
        final: What it is to foretell.
    """

    early: float
    ratio: float
    final: float


def spearman(points: Sequence[Point]) -> float | None:
    """Return Spearman's rank correlation of early and final; None if one of them has no order."""
    early = rankdata([point.early for point in points])
    final = rankdata([point.final for point in points])
    if len(points) < FEWEST or np.ptp(early) == 0 or np.ptp(final) == 0:
        return None
    return float(np.corrcoef(early, final)[0, 1])


def centred(points: Sequence[Point]) -> float | None:
    """Return Spearman's correlation, each early value less the median of those of its ratio.

    Ratios of fewer than FEWEST trainings have no median; their trainings are left out.
    """
    moved = [
        Point(point.early - median, point.ratio, point.final)
        for group in _by_ratio(points)
        for median in (statistics.median(point.early for point in group),)
        for point in group
    ]
    return spearman(moved)


def within_ratio(points: Sequence[Point]) -> float | None:
    """Return the mean of Spearman's correlations among trainings of one ratio, weighted by size."""
    found = [(spearman(group), len(group)) for group in _by_ratio(points)]
    known = [(value, count) for value, count in found if value is not None]
    if not known:
        return None
    return sum(value * count for value, count in known) / sum(count for _, count in known)


COMPARES: dict[str, Compare] = {
    "all": spearman,
    "centred": centred,
    "same_ratio": within_ratio,
}


def _by_ratio(points: Sequence[Point]) -> list[list[Point]]:
    groups: defaultdict[float, list[Point]] = defaultdict(list)
    for point in points:
        groups[point.ratio].append(point)
    return [group for group in groups.values() if len(group) >= FEWEST]


Foretold = Callable[[Training], float]


def correlation(
    trainings: Sequence[Training],
    metric: str,
    progress: float,
    compare: Compare,
    foretold: Foretold,
) -> float | None:
    """Return the mean over the seeds of the correlation among trainings of one seed.

    Within a seed, since the trials of a search share theirs.
    """
    by_seed: defaultdict[int, list[Point]] = defaultdict(list)
    for training in trainings:
        epoch = training.at(progress)
        if metric in epoch:
            point = Point(epoch[metric], epoch["ratio"], foretold(training))
            by_seed[training.config["seed"]].append(point)
    found = [compare(points) for points in by_seed.values()]
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known else None


def resampled(
    groups: Mapping[str, Sequence[Training]], num: int, seed: int
) -> list[list[Training]]:
    """Return bootstrap samples: configurations drawn with replacement, each with all its seeds."""
    draws, names = random.Random(seed), list(groups)
    return [
        [training for name in draws.choices(names, k=len(names)) for training in groups[name]]
        for _ in range(num)
    ]


def between_seeds(trainings: Sequence[Training]) -> float | None:
    """Return the mean correlation of the final errors of one seed with those of another."""
    by_seed: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for training in trainings:
        by_seed[training.config["seed"]][training.without_seed] = training.final
    found = []
    for one in by_seed:
        for other in by_seed:
            shared = by_seed[one].keys() & by_seed[other].keys()
            if one < other:
                pairs = [Point(by_seed[one][key], 1.0, by_seed[other][key]) for key in shared]
                found.append(spearman(pairs))
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known else None

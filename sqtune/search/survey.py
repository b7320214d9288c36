"""Survey: what the points of a space take, all of them or as many as are drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from sqtune.config.corners import corner_points
from sqtune.config.grid import count, draw, points
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.data import Data
from sqtune.data.split import Splits
from sqtune.deploy.sizes.footprint import Footprint, Form, footprint, refusal

MOST_POINTS = 2_000  # that are gone through; of more as many are drawn
SPLITTING = ("validation", "test", "split_seed", "crop_padding", "mirror")  # not what an image is


@dataclass(frozen=True, slots=True)
class Survey:
    """What the points of a space take.

    Attributes:
        points: How many the space has; None: they are endless.
        configurations: Distinct configurations among all points; None where not all were looked at.
        looked_at: Points that were looked at: all of them, or draws.
        refused: Share (0..1) of these that does not fit the target.
        size_bytes: Smallest and largest, in the target's form.
        ram_bytes: Smallest and largest.
        macs: Smallest and largest.
    """

    points: int | None
    configurations: int | None
    looked_at: int
    refused: float
    size_bytes: tuple[int, int]
    ram_bytes: tuple[int, int]
    macs: tuple[int, int]

    @property
    def refused_standard_error(self) -> float:
        """Standard error of `refused`; 0 where every point was looked at."""
        if self.configurations is not None:
            return 0.0
        return math.sqrt(self.refused * (1 - self.refused) / self.looked_at)


class Measures:
    """What configurations take, and the data that this depends on.

    Args:
        space: Where they come from; its target says in which form they are delivered.
        splits_of: Reads a data set; it is called once for the same images, whatever their split.
    """

    def __init__(self, space: SearchSpace, splits_of: Callable[[Data], Splits]) -> None:
        self.form: Form = "onnx" if space.target is None else space.target.form
        self._splits_of = splits_of
        self._known: dict[tuple[Any, ...], Splits] = {}

    def splits(self, config: TrialConfig) -> Splits:
        """Return data of the same images, split in one way or another."""
        data = config.data
        key = tuple(
            (field.name, getattr(data, field.name))
            for field in fields(data)
            if field.name not in SPLITTING
        )
        if key not in self._known:
            self._known[key] = self._splits_of(data)
        return self._known[key]

    def footprint(self, config: TrialConfig) -> Footprint:
        """Return what a configuration takes."""
        splits = self.splits(config)
        return footprint(
            config,
            in_channels=splits.num_channels,
            num_classes=len(splits.classes),
            image_size=splits.image_size,
            form=self.form,
        )


def survey(space: SearchSpace, measures: Measures) -> Survey:
    """Return what the points of a space take."""
    given = space.search.sampler == "points"
    number = len(space.points) if given else count(space)
    whole = number is not None and number <= MOST_POINTS
    looked_at = corner_points if given else points if whole else _draws
    configs = [space.config(values) for values in looked_at(space)]
    taken = [measures.footprint(config) for config in configs]
    refused = sum(refusal(each, space.target) is not None for each in taken)
    return Survey(
        points=number,
        configurations=len(set(configs)) if whole else None,
        looked_at=len(taken),
        refused=refused / len(taken),
        size_bytes=_ends([each.size_bytes for each in taken]),
        ram_bytes=_ends([each.ram_bytes for each in taken]),
        macs=_ends([each.macs for each in taken]),
    )


def _draws(space: SearchSpace) -> Iterator[dict[str, Any]]:
    generator = random.Random(space.search.seed)
    return (draw(space, generator) for _ in range(MOST_POINTS))


def _ends(values: list[int]) -> tuple[int, int]:
    return min(values), max(values)

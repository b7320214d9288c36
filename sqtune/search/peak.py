"""Which configurations of a space take most memory in training, and what share of a GPU."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sqtune.config.corners import corner_points
from sqtune.config.parameters import label
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.data.split import Splits
from sqtune.deploy.sizes.structure import structure
from sqtune.errors import NetworkError

MOST_PROBED = 4  # configurations: an estimate says which, a measurement which is the largest
HEAD_ROOM = 1.1
STEPS = 10_000  # in a GPU: Ray counts in these
MOST_ON_ONE = 100  # trials on a GPU; of more, the rounded share would fit once more or less
DECIDING = ("data", "network", "quantizer", "keep_float", "overrides", "compute", "batch_size")
SWITCHES = ("activation_bits", "ema", "distillation", "regularization")
TWO_BYTES = ("auto", "bfloat16")


@dataclass(frozen=True, slots=True)
class Peak:
    """What the largest configurations of a space took on one GPU.

    Attributes:
        gpu: Its name.
        total_bytes: Its memory.
        peak_bytes: What torch took, of the configuration that took most.
        context_bytes: What was taken besides: by the driver and its kernels, and by others.
        config: That configuration's network and batch size, in words.
    """

    gpu: str
    total_bytes: int
    peak_bytes: int
    context_bytes: int
    config: str

    @property
    def share(self) -> float:
        """The share (0..1, or above where it does not fit) of the GPU, with head room."""
        return (self.peak_bytes + self.context_bytes) * HEAD_ROOM / self.total_bytes


def share_of_gpu(peaks: Iterable[Peak], most: int) -> float:
    """Return what a trial gets: the largest share of which as many fit on a GPU as memory allows.

    Args:
        peaks: On each kind of GPU there is.
        most: Trials on one GPU for which there are CPUs.

    >>> share_of_gpu([Peak("T4", 16_000, 2_000, 500, "")], 16)
    0.2
    >>> share_of_gpu([Peak("T4", 16_000, 2_000, 500, "")], 3)
    0.3333
    """
    fitting = min(int(1 / peak.share) for peak in peaks)
    return math.floor(STEPS / max(1, min(fitting, most, MOST_ON_ONE))) / STEPS


def share_text(peaks: Iterable[Peak], gpus: float, most: int) -> str:
    """Return what was measured and what came of it, in one line.

    >>> share_text([Peak("T4", 15 << 30, 2 << 30, 1 << 29, "resnet20, batch 512")], 0.25, 4)
    'resources.gpus: auto: 2,560 MiB of 15,360 (T4; resnet20, batch 512): 0.25 of a GPU, 4 trials \
on each, for which there are CPUs'
    """
    largest = max(peaks, key=lambda peak: peak.share)
    taken = (largest.peak_bytes + largest.context_bytes) / 2**20
    count = int(1 / gpus)
    limited = ", for which there are CPUs" if count == most else ""
    return (
        f"resources.gpus: auto: {taken:,.0f} MiB of {largest.total_bytes / 2**20:,.0f} "
        f"({largest.gpu}; {largest.config}): {gpus:g} of a GPU, {count} "
        f"trial{'' if count == 1 else 's'} on each{limited}"
    )


def largest_configs(
    space: SearchSpace, splits_of: Callable[[TrialConfig], Splits]
) -> list[TrialConfig]:
    """Return the configurations of a space that may take most memory, by an estimate.

    Args:
        space: Where they come from.
        splits_of: Returns a configuration's data.
    """

    def size(values: Mapping[str, Any]) -> float:
        try:
            config = space.config(values)
            return _estimate(config, splits_of(config))
        except (ValidationError, NetworkError):
            return 0.0  # such values do not stand together

    corners = sorted(corner_points(space), key=size, reverse=True)
    if space.search.sampler != "points":
        corners = [_climbed(space, corners[0], size), *corners]
    distinct: dict[str, TrialConfig] = {}
    for values in corners:
        config = space.config(values)
        distinct.setdefault(deciding(config), config)
        if len(distinct) == MOST_PROBED:
            break
    return list(distinct.values())


def deciding(config: TrialConfig) -> str:
    """Return what of a configuration decides how much memory it takes."""
    content = config.nested()
    kept = {key: content[key] for key in (*DECIDING, *SWITCHES)}
    return json.dumps([kept, config.optimizer.name, config.optimizer.momentum > 0], sort_keys=True)


def digest(*content: Any) -> str:
    """Return the sha256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def config_text(config: TrialConfig) -> str:
    """Return a configuration's network and batch size, in words."""
    network = label(config.nested()["network"])
    return f"{network}, batch_size {config.batch_size}"


def _climbed(
    space: SearchSpace, values: Mapping[str, Any], size: Callable[[Mapping[str, Any]], float]
) -> dict[str, Any]:
    """Return values of which each alone cannot be changed to make the configuration larger."""
    best = dict(values)
    for _ in range(2):
        for path in values:
            samples = space.space[path].samples()
            best = max([best, *({**best, path: sample} for sample in samples)], key=size)
    return best


def _estimate(config: TrialConfig, splits: Splits) -> float:
    """Return about how many bytes a training takes: good enough to tell which take most."""
    network = structure(config.network, splits.num_channels, len(splits.classes), splits.image_size)
    bytes_each = 2 if config.compute.precision in TWO_BYTES else 4
    images = min(config.batch_size, len(splits.train)) * sum(network.values) * bytes_each
    copies = 1 + (config.activation_bits < 32) + 0.5 * (config.distillation.weight > 0)
    weights = sum(layer.num_weights for layer in network.layers) + network.other_numbers
    states = 4 + (config.optimizer.name == "adamw") + (config.ema.decay > 0)
    return images * copies + 4 * weights * (states + (config.distillation.weight > 0))

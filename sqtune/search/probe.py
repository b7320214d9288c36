"""How long an epoch takes here: measured on a part of one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from sqtune.config.trial import TrialConfig
from sqtune.data.split import AnySplit, Splits
from sqtune.train.training import Training

# Multiply-adds of a probe, forward and backward: some seconds on a core, or a GPU.
WORK = {"cpu": 1e10, "cuda": 1e13}
PASSES = 3  # of multiply-adds in a training step: one forward, two backward
EVALUATIONS = 2  # in an epoch: the hybrid network and the quantized one


@dataclass(frozen=True, slots=True)
class Probe:
    """What was measured.

    Attributes:
        num_images: Training images in the part of an epoch that was timed.
        epoch_seconds: What a whole epoch takes, with its evaluations.
    """

    num_images: int
    epoch_seconds: float


def probe_epoch(
    config: TrialConfig, splits: Splits, *, macs: int, device: str, num_threads: int
) -> Probe:
    """Train a part of the first and of the last epoch, and time the last.

    Every quantizer acts in the last one, and what is done only once has been done before: in the
    first, and where that is compiling, which follows what is computed, in two more last ones (clips
    of activations are set in one's first step). Threads of torch are put back.

    Args:
        config: What to train.
        splits: Its data.
        macs: Multiply-adds of its network for one image.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: CPU threads of torch.

    Raises:
        SqtuneError: It cannot be trained (`sqtune.train.loop.train`).
    """
    target = torch.device(device)
    part = _part(splits, int(WORK[target.type] / (PASSES * macs)), config.batch_size)
    num_images = len(part.train)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        training = Training(config, part.to(target), target)
        training.run_epoch(1)
        for _ in range(0 if config.compute.compile == "off" else 2):
            training.run_epoch(config.num_epochs)
        started = time.perf_counter()
        result = training.run_epoch(config.num_epochs)
        seconds = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads_before)
    training_seconds = num_images / result.images_per_second
    evaluation_seconds = max(seconds - training_seconds, 0) / len(part.validation)
    whole = len(splits.train) / result.images_per_second
    return Probe(num_images, whole + EVALUATIONS * evaluation_seconds * len(splits.validation))


def _part(splits: Splits, num_images: int, batch_size: int) -> Splits:
    """Return about so many training images, in whole batches, and their share of the validation."""
    num_images = min(num_images, len(splits.train))
    if num_images > batch_size:
        num_images -= num_images % batch_size
    stride = max(1, len(splits.train) // max(num_images, 2))
    return replace(
        splits,
        train=_every(splits.train, stride, num_images),
        validation=_every(splits.validation, stride, num_images),
    )


def _every(split: AnySplit, stride: int, most: int) -> AnySplit:
    return split.part(torch.arange(0, len(split), stride)[: max(most, 2)])

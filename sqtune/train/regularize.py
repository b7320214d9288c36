"""Regularisation of the training batches: what the network sees, and what it is held to.

The draws of an epoch come from a generator of their own on the network's device, seeded anew at
each epoch's start: a continuation has them again, whatever was drawn in between.

Shape names: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sqtune.config.training import Regularization
from sqtune.data.augment import cut_out, erase, mixed, mixing_shares


@dataclass(frozen=True, slots=True)
class Examples:
    """A batch as it is trained on.

    Attributes:
        images: N x C x H x W in 0..255; uint8, or float32 where they are mixed.
        labels: int64, N.
        share_N: Where images are mixed, the share of an image's own label; the rest is that of the
            image before it, for the first one that of the last.
    """

    images: Tensor
    labels: Tensor
    share_N: Tensor | None = None


class Regularizer:
    """What `regularization` in a configuration comes to; with all of it off, nothing is drawn.

    Args:
        spec: What is wanted.
        mean: Of the training images, per channel, of values in 0..1: what is filled in, which
            normalisation turns to 0 (to within half a grey level).
        device: Where the batches are.
    """

    def __init__(self, spec: Regularization, mean: tuple[float, ...], device: torch.device) -> None:
        self._spec = spec
        self._fill = (255 * torch.tensor(mean)).round().to(device, torch.uint8)[:, None, None]
        self._generator = torch.Generator(device)

    def begin_epoch(self, seed: int) -> None:
        """Draw from here on what belongs to a seed."""
        self._generator.manual_seed(seed)

    def examples(self, images: Tensor, labels: Tensor) -> Examples:
        """Return a batch (uint8 images, labels) as it is trained on."""
        spec, generator = self._spec, self._generator
        if spec.cutout:
            images = cut_out(images, spec.cutout, self._fill, generator)
        if spec.random_erasing:
            images = erase(images, spec.random_erasing, self._fill, generator)
        if not spec.mixup:
            return Examples(images, labels)
        share_N = mixing_shares(len(images), spec.mixup, generator)
        return Examples(mixed(images, share_N), labels, share_N)

    def loss(self, logits_NK: Tensor, examples: Examples) -> Tensor:
        """Return the cross-entropy with the labels, smoothed and mixed, averaged over images."""
        smoothing = self._spec.label_smoothing
        labels, share_N = examples.labels, examples.share_N
        if share_N is None:
            return functional.cross_entropy(logits_NK, labels, label_smoothing=smoothing)
        own_N, other_N = (
            functional.cross_entropy(logits_NK, each, reduction="none", label_smoothing=smoothing)
            for each in (labels, labels.roll(1, 0))
        )
        return (share_N * own_N + (1 - share_N) * other_N).mean()

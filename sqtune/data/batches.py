"""Batches: shuffled, cropped and mirrored on the device, without a loop over images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from sqtune.data.split import Split

EVALUATION_BATCH = 512


def training_batches(
    split: Split,
    batch_size: int,
    *,
    crop_padding: int,
    mirror: bool,
    device: torch.device,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of whole batches (uint8 images, labels); the last, partial one is left out.

    Args:
        split: The training images, on `device` or beside it.
        batch_size: Images a batch; where it is more than there are, one batch of all.
        crop_padding: Pixels of zero padding before the random crop; 0 for no crop.
        mirror: Whether each image is mirrored with probability 1/2.
        device: Where the batches come out.
        generator: Source of the order and the augmentation, on the device of `split`.
    """
    batch_size = min(batch_size, len(split))
    order = torch.randperm(len(split), generator=generator, device=split.labels.device)
    for ids in order[: len(split) // batch_size * batch_size].split(batch_size):
        images = split.images[ids]
        if crop_padding:
            images = random_crop(images, crop_padding, generator)
        if mirror:
            images = random_mirror(images, generator)
        yield images.to(device, non_blocking=True), split.labels[ids].to(device, non_blocking=True)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image (N x C x H x W) by up to `padding` pixels each way; zeros come in."""
    num, channels, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding,) * 4)
    shift = torch.randint(0, 2 * padding + 1, (2, num), generator=generator, device=device)
    rows = (shift[0, :, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (shift[1, :, None] + torch.arange(width, device=device))[:, None, None, :]
    image = torch.arange(num, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[image, channel, rows, columns]


def random_mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (N x C x H x W) left to right with probability 1/2."""
    flip = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


class Normalize:
    """uint8 images to float32 of mean 0 and standard deviation 1 per channel.

    Args:
        mean: Per channel, of values in 0..1.
        std: Likewise.
        device: Where the images are.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        self._mean = 255 * torch.tensor(mean, device=device)[:, None, None]
        self._scale = 1 / (255 * torch.tensor(std, device=device)[:, None, None])

    def __call__(self, images: Tensor) -> Tensor:
        """Return normalised float32 images, N x C x H x W."""
        return (images.float() - self._mean) * self._scale

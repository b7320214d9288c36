"""Batches: shuffled, cropped and mirrored on the device, without a loop over images.

A random crop of a zero-padded image is the image's own memory read from an offset on: what comes in
from the neighbouring rows and images lies exactly where the padding would be, and is masked away.
So each image is one contiguous copy, whatever its shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from sqtune.data.split import AnySplit

EVALUATION_BATCH = 512


def training_batches(
    split: AnySplit,
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
    batches = order[: len(split) // batch_size * batch_size].split(batch_size)
    for stored, labels in split.fetch(batches, device, generator):
        images = random_crop(stored, crop_padding, generator) if crop_padding else stored
        yield random_mirror(images, generator) if mirror else images, labels


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image (uint8, N x C x H x W) by up to `padding` pixels each way; zeros come in."""
    num, channels, height, width = images.shape
    device, image_size = images.device, channels * height * width
    shift = torch.randint(
        0, 2 * padding + 1, (2, num), generator=generator, device=generator.device
    )
    down, right = _move(shift, device)
    slack = padding * width + padding  # of the first image to the front, of the last to the back
    memory = images.new_empty(slack + num * image_size + slack)
    memory[slack : slack + num * image_size] = images.reshape(-1)
    windows = memory.as_strided((2 * slack + (num - 1) * image_size + 1, image_size), (1, 1))
    first = torch.arange(0, num * image_size, image_size, device=device)
    shifted = windows.index_select(0, first.add_(down, alpha=width).add_(right))
    rows, columns = _visible(padding, height, width, device)
    mask = rows.index_select(0, down).bitwise_and_(columns.index_select(0, right))
    shifted.view(num, channels, -1).bitwise_and_(mask[:, None])
    return shifted.view(images.shape)


def random_mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (N x C x H x W) left to right with probability 1/2."""
    num, device = len(images), images.device
    is_mirrored = torch.rand(num, generator=generator, device=generator.device) < 0.5
    both = torch.cat((images, images.flip(3)))
    ids = torch.arange(num, device=device).add_(_move(is_mirrored, device), alpha=num)
    return both.index_select(0, ids)


@lru_cache(maxsize=4)
def _visible(padding: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the pixels that a shift leaves inside the image: 255 there, 0 outside.

    One mask for each shift down and one for each shift right, uint8, (2 padding + 1) x (H W).
    """
    rows, columns = (
        torch.arange(-padding, padding + 1)[:, None] + torch.arange(side)
        for side in (height, width)
    )
    by_row = ((rows >= 0) & (rows < height)).repeat_interleave(width, dim=1)
    by_column = ((columns >= 0) & (columns < width)).repeat(1, height)
    return by_row.to(device, torch.uint8) * 255, by_column.to(device, torch.uint8) * 255


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for the device."""
    if tensor.device.type == device.type:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


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
        return images.to(torch.float32, copy=True).sub_(self._mean).mul_(self._scale)

"""Regularisation by the images of a batch: squares cut out, rectangles erased, images mixed.

All of a batch at once, on the device, without a loop over images and without waiting for the
device. The generators are on the images' device.

Shape names: N images, H and W their height and width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ERASED_AREA = (0.02, 0.33)  # share of the image, as in torchvision's RandomErasing
ERASED_ASPECT = (0.3, 3.3)  # height / width, likewise


def cut_out(images: Tensor, side: int, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a square in each image; its centre is any pixel, so a part of it may lie outside.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017.

    Args:
        images: uint8, N x C x H x W.
        side: Of the square, in pixels, at least 1.
        fill: uint8, C x 1 x 1.
        generator: Source of the centres, uniform over the pixels.
    """
    num, _, height, width = images.shape
    device = images.device
    top_N, left_N = (
        torch.randint(0, length, (num,), generator=generator, device=device) - side // 2
        for length in (height, width)
    )
    return _filled(images, fill, (top_N, top_N + side), (left_N, left_N + side))


def erase(images: Tensor, probability: float, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a rectangle, inside the image, in a share of the images.

    Its area is uniform in 2 to 33 % of the image, the logarithm of its aspect in log 0.3 to log
    3.3, its place uniform; sides are whole pixels, at least 1 and at most the image's. Source:
    Zhong et al., "Random Erasing Data Augmentation", 2017, with torchvision's ranges.

    Args:
        images: uint8, N x C x H x W.
        probability: Of an image being erased at all, in 0..1.
        fill: uint8, C x 1 x 1.
        generator: Source of all that is random.
    """
    num, _, height, width = images.shape
    drawn = torch.rand(5, num, generator=generator, device=images.device)
    is_erased_N, area_N, aspect_N, down_N, right_N = drawn.unbind()
    low, high = ERASED_AREA
    area_N = height * width * (low + (high - low) * area_N)
    low, high = map(math.log, ERASED_ASPECT)
    aspect_N = (low + (high - low) * aspect_N).exp()
    rows_N = (area_N * aspect_N).sqrt().round().clamp(1, height)
    columns_N = (area_N / aspect_N).sqrt().round().clamp(1, width)
    rows_N *= is_erased_N < probability  # no rows: nothing is filled
    top_N = (down_N * (height - rows_N + 1)).floor()
    left_N = (right_N * (width - columns_N + 1)).floor()
    return _filled(images, fill, (top_N, top_N + rows_N), (left_N, left_N + columns_N))


def mixing_shares(num: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Return `num` independent draws from Beta(alpha, alpha), float32 in 0..1, on the device.

    They are ratios of gamma variables, in logarithms: those of a small alpha underflow. That of
    alpha is that of alpha + 1 times U**(1 / alpha) (Marsaglia and Tsang, 2000, section 6).
    """
    shape, device = (2, num), generator.device
    above = torch.full(shape, alpha + 1, dtype=torch.float64, device=device)
    # The sampler of torch.distributions.Gamma, which takes no generator.
    gamma = torch._standard_gamma(above, generator=generator)
    uniform = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
    one_N, other_N = gamma.log() + (1 - uniform).log() / alpha
    share_N: Tensor = (one_N - other_N).sigmoid().float()
    return share_N


def mixed(images: Tensor, share_N: Tensor) -> Tensor:
    """Return each image mixed with the one before it in the batch, the first with the last.

    A batch is in random order, so this is as good as a random partner. Source: Zhang et al.,
    "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Args:
        images: uint8, N x C x H x W.
        share_N: Of the image itself, in 0..1; the rest is the other one's.

    Returns:
        float32, N x C x H x W, in 0..255.
    """
    own, share = images.float(), share_N[:, None, None, None]
    return own * share + own.roll(1, 0) * (1 - share)


def _filled(
    images: Tensor, fill: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> Tensor:
    """Fill in each image the pixels from the first row (column) on that lie before the second."""
    height, width = images.shape[2:]
    inside_NH, inside_NW = (
        (place >= first_N[:, None]) & (place < end_N[:, None])
        for place, (first_N, end_N) in (
            (torch.arange(height, device=images.device), rows),
            (torch.arange(width, device=images.device), columns),
        )
    )
    return torch.where(inside_NH[:, None, :, None] & inside_NW[:, None, None, :], fill, images)

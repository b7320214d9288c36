"""Whether a network that others wrote gives one finite logit per class: tried on two images."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sqtune.errors import NetworkError

NUM_IMAGES = 2  # one would not tell N x classes from a vector of classes


@torch.no_grad()
def outputs(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> object:
    """Return what a model makes of two images, in the mode that it is in.

    Pixels go evenly from -1 to 1, as normalised ones do: no generator is asked.
    """
    shape = (NUM_IMAGES, in_channels, *image_size)
    return model(torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape))


def evaluated(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> object:
    """Return what a model makes of two images when it evaluates; it is left in training mode."""
    model.eval()
    try:
        return outputs(model, in_channels, image_size)
    finally:
        model.train()


def trained(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> object:
    """Return what a copy of a model makes of two images when it trains, with dropout and all."""
    with torch.random.fork_rng(devices=[]):
        return outputs(copy.deepcopy(model).train(), in_channels, image_size)


def check_logits(found: object, num_classes: int, who: str, remedy: str) -> None:
    """Raise NetworkError unless a network gave one finite logit per image and class.

    Args:
        found: What came out for `NUM_IMAGES` images.
        num_classes: Classes of the data.
        who: The network, for the message.
        remedy: Its last sentences.
    """
    wanted = f"{NUM_IMAGES} x {num_classes} logits for {NUM_IMAGES} images of {num_classes} classes"
    if not isinstance(found, Tensor):
        raise NetworkError(f"{who} gives a {type(found).__name__}, not {wanted}. {remedy}")
    if tuple(found.shape) != (NUM_IMAGES, num_classes) or not found.is_floating_point():
        shape = " x ".join(map(str, found.shape)) or "a single number"
        kind = "" if found.is_floating_point() else f" of {found.dtype}"
        raise NetworkError(f"{who} gives {shape}{kind}, not {wanted}. {remedy}")
    if not bool(found.isfinite().all()):
        raise NetworkError(
            f"{who} gives logits that are not finite (NaN or infinite) with fresh weights. {remedy}"
        )

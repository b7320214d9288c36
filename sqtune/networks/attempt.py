"""Whether a network that others wrote gives one finite logit per class: tried on two images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sqtune.errors import NetworkError

NUM_IMAGES = 2  # one would not tell N x classes from a vector of classes


@torch.no_grad()
def outputs(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> object:
    """Return what a model makes of two images, in evaluation mode; it is left in training mode.

    Pixels go evenly from -1 to 1, as normalised ones do: no generator is asked.
    """
    shape = (NUM_IMAGES, in_channels, *image_size)
    images = torch.linspace(-1, 1, torch.Size(shape).numel()).view(shape)
    model.eval()
    try:
        return model(images)
    finally:
        model.train()


def check_logits(found: object, num_classes: int, who: str, remedy: str) -> None:
    """Raise NetworkError unless `outputs` found one finite logit per image and class.

    Args:
        found: What came out.
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

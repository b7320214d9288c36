"""torchvision's classification models by name; nothing else of the networks imports torchvision."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from sqtune.errors import NetworkError, did_you_mean
from sqtune.networks.attempt import check_logits, evaluated
from sqtune.networks.spec import Torchvision

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_model(
    network: Torchvision, in_channels: int, num_classes: int, image_size: tuple[int, int]
) -> nn.Module:
    """Build a model with fresh weights and try it on two images of the given size.

    Auxiliary heads, which only training has, are left out: the model always gives one output.

    Raises:
        NetworkError: torchvision has no such classification model, the images are not of 3
            channels, or the model does not take images of this size or gives no finite logits.
    """
    name = network.model
    known = models.list_models(module=models)
    if name not in known:
        raise NetworkError(
            f'torchvision has no classification model "{name}". {did_you_mean(name, known)}'
        )
    if in_channels != 3:
        raise NetworkError(
            f"torchvision's {name} takes images of 3 channels, these have {in_channels}. Take "
            "another network or, where they come from files in colour, data.channels=3."
        )
    try:
        model: nn.Module = models.get_model(
            name, weights=None, num_classes=num_classes, **_more_arguments(name, image_size)
        )
        found = evaluated(model, in_channels, image_size)
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = image_size
        reason = str(error).partition("\n")[0].rstrip(".!")
        raise NetworkError(
            f"torchvision's {name} does not take images of {height}x{width}: {reason}. Take images "
            "of another size (data.image_size for a folder of images) or another network."
        ) from error
    check_logits(found, num_classes, f"torchvision's {name}", "Take another network.")
    return model


def _more_arguments(name: str, image_size: tuple[int, int]) -> dict[str, Any]:
    """Return what a model has to be told beside its number of classes."""
    if name in WITH_AUXILIARY_HEADS:
        return {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        return {"image_size": image_size[0]}  # square ones only: trying it refuses the others
    if name.startswith("maxvit_"):
        return {"input_size": image_size}
    return {}

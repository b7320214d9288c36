"""Trained networks on disk, without the training: batch norm has statistics nevertheless."""

from __future__ import annotations

from pathlib import Path

import torch
from small_networks import MEAN, STD, images, with_statistics
from torch import Tensor

from sqtune.config import TrialConfig
from sqtune.data.batches import Normalize
from sqtune.deploy.torch_file import torch_bytes
from sqtune.networks import ResNet, build
from sqtune.train.checkpoint import (
    About,
    load_codes,
    load_network,
    quantization_of,
    save_network,
)

SHAPE = (3, 12, 12)


def about(shape: tuple[int, int, int] = SHAPE, num_classes: int = 5) -> About:
    classes = tuple(f"class {index}" for index in range(num_classes))
    mean, std = (MEAN,) * shape[0], (STD,) * shape[0]
    return About(classes, shape[0], shape[1:], mean, std, "f00d", {"val_error": 0.5})


def network_config(**fields: object) -> TrialConfig:
    fields = {"network": ResNet("resnet8", 3), **fields}  # odd numbers of codes
    return TrialConfig.model_validate(fields, strict=False)


def save(
    folder: Path, config: TrialConfig, shape: tuple[int, int, int] = SHAPE, seed: int = 0
) -> tuple[dict[str, Tensor], Tensor]:
    """Save a network; return its quantized state and its logits of `images(16, shape)`."""
    what = about(shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config.network, shape[0], len(what.classes), shape[1:])
    guest = quantization_of(with_statistics(model, seed), config)
    normalize = Normalize(what.mean, what.std, torch.device("cpu"))
    with torch.no_grad(), guest.quantized():
        logits = model(normalize(images(16, shape)))
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_network(folder, config, what, model, guest)
    return state, logits


def written(folder: Path) -> bytes:
    """Return a saved network in the torch form."""
    return torch_bytes(load_network(folder), load_codes(folder))

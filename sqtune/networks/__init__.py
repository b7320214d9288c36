"""Networks by name: plain nn.Modules that know nothing of quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqtune.networks.spec import (
    Network,
    ResNet,
    ResNet18,
    Torchvision,
    Vgg9,
    check_image_size,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Network",
    "ResNet",
    "ResNet18",
    "Torchvision",
    "Vgg9",
    "build",
    "check_image_size",
]


def build(
    network: Network, in_channels: int, num_classes: int, image_size: tuple[int, int] = (32, 32)
) -> nn.Module:
    """Build a network with fresh weights, drawn from torch's global generator.

    Args:
        network: Which one.
        in_channels: Channels of its input images.
        num_classes: Its outputs, at least 2.
        image_size: Height and width of its input images.
    """
    del image_size
    from sqtune.networks.resnet import CifarResNet

    return CifarResNet(network, in_channels, num_classes)

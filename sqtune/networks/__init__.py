"""Networks by name: plain nn.Modules that know nothing of quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqtune.networks.spec import (
    AlexNetBn,
    Factory,
    Network,
    ResNet,
    ResNet18,
    Torchvision,
    Vgg9,
    check_image_size,
    smallest_image,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "AlexNetBn",
    "Factory",
    "Network",
    "ResNet",
    "ResNet18",
    "Torchvision",
    "Vgg9",
    "build",
    "check_fits",
    "check_image_size",
    "smallest_image",
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

    Raises:
        NetworkError: The network does not suit the images or the classes, torchvision does not
            know it, or the factory that builds it fails.
        ConfigError: There is no such factory, or it does not take its arguments.
    """
    check_image_size(network, *image_size)
    match network:
        case ResNet():
            from sqtune.networks.resnet import CifarResNet

            return CifarResNet(network, in_channels, num_classes)
        case Vgg9():
            from sqtune.networks.vgg import Vgg

            return Vgg(network, in_channels, num_classes, image_size)
        case ResNet18():
            from sqtune.networks.resnet18 import ImageNetResNet18

            return ImageNetResNet18(network, in_channels, num_classes)
        case AlexNetBn():
            from sqtune.networks.alexnet import AlexNet

            return AlexNet(network, in_channels, num_classes, image_size)
        case Torchvision():
            from sqtune.networks.by_torchvision import torchvision_model

            return torchvision_model(network, in_channels, num_classes, image_size)
        case Factory():
            from sqtune.networks.by_factory import factory_model

            return factory_model(network, in_channels, num_classes, image_size)


def check_fits(
    network: Network, in_channels: int, num_classes: int, image_size: tuple[int, int]
) -> None:
    """Raise what `build` would; networks that others wrote are built to find out."""
    check_image_size(network, *image_size)
    if isinstance(network, Torchvision | Factory):
        import torch

        with torch.random.fork_rng(devices=[]):
            build(network, in_channels, num_classes, image_size)

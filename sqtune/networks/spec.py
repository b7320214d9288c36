"""Which network: frozen descriptions that need no torch to be read or checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqtune.errors import NetworkError

ResNetName = Literal["resnet8", "resnet20", "resnet32", "resnet56"]
SMALLEST_IMAGE = 8  # ResNet halves it twice, to 2x2, Vgg9 three times, to 1x1
SMALLEST_FOR_RESNET18 = 32  # halved five times, to 1x1


@dataclass(frozen=True, slots=True)
class ResNet:
    """A CIFAR-style residual network (`sqtune.networks.resnet`).

    Attributes:
        name: Its depth: 6n + 2 layers with weights, n blocks in each of three groups.
        width: Channels of the first group; the others have 2 and 4 times as many.
    """

    name: ResNetName = "resnet20"
    width: int = 16

    def __post_init__(self) -> None:
        _check_width(self.width)

    @property
    def depth(self) -> int:
        """Layers with weights on the longest path."""
        return int(self.name.removeprefix("resnet"))


@dataclass(frozen=True, slots=True)
class Vgg9:
    """The paper's VGG-9 (`sqtune.networks.vgg`).

    Attributes:
        width: Channels of the first two convolutions; the others have 2 and 4 times as many, the
            two hidden layers 8 times.
    """

    name: Literal["vgg9"] = "vgg9"
    width: int = 64

    def __post_init__(self) -> None:
        _check_width(self.width)


@dataclass(frozen=True, slots=True)
class ResNet18:
    """The usual ResNet-18 for ImageNet-sized images (`sqtune.networks.resnet18`).

    Attributes:
        width: Channels of the first group; the others have 2, 4 and 8 times as many.
    """

    name: Literal["resnet18"] = "resnet18"
    width: int = 64

    def __post_init__(self) -> None:
        _check_width(self.width)


@dataclass(frozen=True, slots=True)
class Torchvision:
    """A classification model of torchvision, by its name there.

    Attributes:
        model: Such as "mobilenet_v2".
    """

    model: str
    name: Literal["torchvision"] = "torchvision"


Network = ResNet | Vgg9 | ResNet18 | Torchvision


def _check_width(width: int) -> None:
    if not 1 <= width <= 1024:
        raise NetworkError(f"width is 1 to 1024 channels, not {width}.")


def check_image_size(network: Network, height: int, width: int) -> None:
    """Raise NetworkError where an image is too small for the network.

    torchvision's models have no common rule: whether one takes a size shows when it is built.
    """
    if isinstance(network, Torchvision):
        return
    smallest = SMALLEST_FOR_RESNET18 if isinstance(network, ResNet18) else SMALLEST_IMAGE
    if min(height, width) < smallest:
        raise NetworkError(
            f"{network.name} is too deep for images of {height}x{width}: it halves them several "
            f"times and needs at least {smallest}x{smallest}. Take larger images "
            "(data.image_size for a folder of images)."
        )

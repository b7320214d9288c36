"""Which network: frozen descriptions that need no torch to be read or checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sqtune.errors import NetworkError
from sqtune.factories import Args, check_name

ResNetName = Literal["resnet8", "resnet20", "resnet32", "resnet56", "resnet110"]


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
class AlexNetBn:
    """The paper's AlexNet with batch norm, for ImageNet-sized images (`sqtune.networks.alexnet`).

    Attributes:
        width: Channels of the first convolution. The second and the fifth have 8/3 times as many,
            the third and the fourth 4 times, the two hidden layers 128/3 times, rounded down:
            96-256-384-384-256 and 4096-4096 at 96.
    """

    name: Literal["alexnet_bn"] = "alexnet_bn"
    width: int = 96

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


@dataclass(frozen=True, slots=True)
class Factory:
    """A network that somebody's own code builds (`sqtune.networks.by_factory`).

    Attributes:
        factory: "package.module:function", installed or in the working directory. It returns a new
            torch.nn.Module in each call, with weights from torch's global generator.
        args: What it is called with, by name. Where it takes them, it is also told `in_channels`,
            `num_classes` and `image_size` (height, width).
    """

    factory: str
    args: dict[str, Any] = field(default_factory=Args)
    name: Literal["factory"] = "factory"

    def __post_init__(self) -> None:
        check_name(self.factory)
        object.__setattr__(self, "args", Args(self.args))


Network = ResNet | Vgg9 | ResNet18 | AlexNetBn | Torchvision | Factory


def _check_width(width: int) -> None:
    if not 1 <= width <= 1024:
        raise NetworkError(f"width is 1 to 1024 channels, not {width}.")


def smallest_image(network: Network) -> int:
    """Return the least height and width of an image; 1 where it only shows when it is built."""
    match network:
        case ResNet() | Vgg9():
            return 8  # halved twice, to 2x2, or three times, to 1x1
        case ResNet18():
            return 32  # halved five times, to 1x1
        case AlexNetBn():
            return 63  # strides of 4, 2, 2 and 2, without padding but for the first: to 1x1
        case Torchvision() | Factory():
            return 1


def check_image_size(network: Network, height: int, width: int) -> None:
    """Raise NetworkError where an image is too small for the network.

    torchvision's models and those of factories have no common rule: whether one takes a size shows
    when it is built.
    """
    smallest = smallest_image(network)
    if min(height, width) < smallest:
        raise NetworkError(
            f"{network.name} is too deep for images of {height}x{width}: it halves them several "
            f"times and needs at least {smallest}x{smallest}. Take larger images "
            "(data.image_size for a folder of images)."
        )

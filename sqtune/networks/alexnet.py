"""AlexNet with batch norm as the Stochastic Quantization paper trains it on ImageNet.

Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks",
section 3.5, for kernels, strides and pools, without its two groups and its local response
normalisation; Dong et al., "Learning Accurate Low-Bit Deep Neural Networks with Stochastic
Quantization", for batch norm behind every convolution and hidden layer. Crops of 224
are padded by 2, as torchvision's AlexNet does, so that the maps have the original's sizes: 55 (56
from crops of 227), 27, 13, 6.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from sqtune.networks.layers import convolution, hidden
from sqtune.networks.spec import AlexNetBn


def side_of_features(side: int) -> int:
    """Return the height (or width) of the last feature map for an image of `side` pixels.

    >>> side_of_features(224), side_of_features(227), side_of_features(63)
    (6, 6, 1)
    """
    side = (side + 2 * 2 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side


class AlexNet(nn.Module):
    """Five convolutions with pools behind 1, 2 and 5, two hidden layers, classifier.

    Args:
        spec: Its width.
        in_channels: Channels of the images.
        num_classes: Outputs.
        image_size: Height and width of the images, at least 63 each: they decide how many inputs
            the first hidden layer has.
    """

    def __init__(
        self, spec: AlexNetBn, in_channels: int, num_classes: int, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        width, inner = spec.width, 4 * spec.width
        second, last = 8 * spec.width // 3, 128 * spec.width // 3
        self.features = nn.Sequential(
            convolution(in_channels, width, 11, 4, 2),
            nn.MaxPool2d(3, 2),
            convolution(width, second, 5, 1, 2),
            nn.MaxPool2d(3, 2),
            convolution(second, inner, 3, 1, 1),
            convolution(inner, inner, 3, 1, 1),
            convolution(inner, second, 3, 1, 1),
            nn.MaxPool2d(3, 2),
        )
        rows, columns = map(side_of_features, image_size)
        self.hidden1 = hidden(second * rows * columns, last)
        self.hidden2 = hidden(last, last)
        self.head = nn.Linear(last, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x in_channels x H x W, to logits, N x num_classes."""
        x = self.features(images).flatten(1)
        return cast(Tensor, self.head(self.hidden2(self.hidden1(x))))

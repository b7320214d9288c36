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

from sqtune.networks.spec import AlexNetBn

AFTER_HIDDEN = 0.5  # dropout


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _hidden(in_features: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False),
        nn.BatchNorm1d(out_features),
        nn.ReLU(),
        nn.Dropout(AFTER_HIDDEN),
    )


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
        second, hidden = 8 * spec.width // 3, 128 * spec.width // 3
        self.features = nn.Sequential(
            _convolution(in_channels, width, 11, 4, 2),
            nn.MaxPool2d(3, 2),
            _convolution(width, second, 5, 1, 2),
            nn.MaxPool2d(3, 2),
            _convolution(second, inner, 3, 1, 1),
            _convolution(inner, inner, 3, 1, 1),
            _convolution(inner, second, 3, 1, 1),
            nn.MaxPool2d(3, 2),
        )
        rows, columns = map(side_of_features, image_size)
        self.hidden1 = _hidden(second * rows * columns, hidden)
        self.hidden2 = _hidden(hidden, hidden)
        self.head = nn.Linear(hidden, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x in_channels x H x W, to logits, N x num_classes."""
        x = self.features(images).flatten(1)
        return cast(Tensor, self.head(self.hidden2(self.hidden1(x))))

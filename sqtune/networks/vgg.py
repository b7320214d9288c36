"""VGG-9 as the Stochastic Quantization paper trains it on CIFAR: a plain nn.Module.

Source: Dong et al., "Learning Accurate Low-Bit Deep Neural Networks with Stochastic Quantization",
section 4.1: 64-64-pool-128-128-pool-256-256-pool, 512-512, classes.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from sqtune.networks.layers import convolution, hidden
from sqtune.networks.spec import Vgg9

AFTER_POOL = 0.25  # dropout


class Vgg(nn.Module):
    """Three groups of two convolutions, two hidden layers, classifier.

    Args:
        spec: Its width.
        in_channels: Channels of the images.
        num_classes: Outputs.
        image_size: Height and width of the images, at least 8 each: they decide how many inputs
            the first hidden layer has.
    """

    def __init__(
        self, spec: Vgg9, in_channels: int, num_classes: int, image_size: tuple[int, int]
    ) -> None:
        super().__init__()
        groups, before = [], in_channels
        for channels in (spec.width, 2 * spec.width, 4 * spec.width):
            groups += [
                convolution(before, channels),
                convolution(channels, channels),
                nn.MaxPool2d(2),
                nn.Dropout(AFTER_POOL),
            ]
            before = channels
        self.features = nn.Sequential(*groups)
        height, width = (side // 8 for side in image_size)  # three poolings, each rounds down
        self.hidden1 = hidden(before * height * width, 8 * spec.width)
        self.hidden2 = hidden(8 * spec.width, 8 * spec.width)
        self.head = nn.Linear(8 * spec.width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x in_channels x H x W, to logits, N x num_classes."""
        x = self.features(images).flatten(1)
        return cast(Tensor, self.head(self.hidden2(self.hidden1(x))))

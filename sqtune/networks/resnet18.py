"""ResNet-18 for ImageNet-sized images: a plain nn.Module.

Source: He et al., "Deep Residual Learning for Image Recognition", table 1, option B (1x1
projections). Modules have torchvision's names, so that its weights can be loaded.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from sqtune.networks.spec import ResNet18


class ImageNetBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map N x in_channels x H x W to N x out_channels x ceil(H/stride) x ceil(W/stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def _group(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ImageNetBlock(in_channels, out_channels, stride),
        ImageNetBlock(out_channels, out_channels, 1),
    )


class ImageNetResNet18(nn.Module):
    """Stem, four groups of two blocks, average pooling, classifier.

    Args:
        spec: Its width.
        in_channels: Channels of the images.
        num_classes: Outputs.
    """

    def __init__(self, spec: ResNet18, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = spec.width
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _group(width, width, 1)
        self.layer2 = _group(width, 2 * width, 2)
        self.layer3 = _group(2 * width, 4 * width, 2)
        self.layer4 = _group(4 * width, 8 * width, 2)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x in_channels x H x W, to logits, N x num_classes."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.max_pool2d(x, 3, 2, padding=1)
        for group in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = group(x)
        return cast(Tensor, self.fc(x.mean(dim=(2, 3))))

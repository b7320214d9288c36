"""CIFAR-style residual networks, plain nn.Modules that know nothing of quantization.

Source: He et al., "Deep Residual Learning for Image Recognition", section 4.2, with the projection
shortcuts of the Stochastic Quantization paper: 2x2 convolutions of stride 2 where the shape
changes.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from sqtune.networks.spec import ResNet


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 2, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map N x in_channels x H x W to N x out_channels x H/stride x W/stride."""
        y = functional.relu(self.bn1(self.conv1(_even(x) if self._halves else x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.shortcut(_even(x) if self._halves else x))

    @property
    def _halves(self) -> bool:
        return self.conv1.stride != (1, 1)


def _even(x: Tensor) -> Tensor:
    """Pad odd heights and widths by one, so that 3x3 and 2x2 of stride 2 give the same shape."""
    return functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))


def _group(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    """Return blocks of which the first halves the image where the channels change."""
    first = BasicBlock(in_channels, out_channels, 1 if in_channels == out_channels else 2)
    rest = [BasicBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


class CifarResNet(nn.Module):
    """Stem, three groups of blocks, average pooling, classifier.

    Args:
        spec: Depth and width.
        in_channels: Channels of the images.
        num_classes: Outputs.
    """

    def __init__(self, spec: ResNet, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = _conv3x3(in_channels, spec.width)
        self.stem_bn = nn.BatchNorm2d(spec.width)
        num_blocks = (spec.depth - 2) // 6
        self.group1 = _group(spec.width, spec.width, num_blocks)
        self.group2 = _group(spec.width, 2 * spec.width, num_blocks)
        self.group3 = _group(2 * spec.width, 4 * spec.width, num_blocks)
        self.head = nn.Linear(4 * spec.width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x in_channels x H x W (H, W >= 8), to logits, N x num_classes."""
        x = functional.relu(self.stem_bn(self.stem(images)))
        for group in (self.group1, self.group2, self.group3):
            x = group(x)
        return cast(Tensor, self.head(x.mean(dim=(2, 3))))

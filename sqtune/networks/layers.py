"""What VGG-9 and AlexNet-BN are made of: layers with batch norm behind them."""

from __future__ import annotations

from torch import nn

AFTER_HIDDEN = 0.5  # dropout


def convolution(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Return a convolution without bias, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def hidden(in_features: int, out_features: int) -> nn.Sequential:
    """Return a fully connected layer without bias, batch norm, ReLU and dropout."""
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False),
        nn.BatchNorm1d(out_features),
        nn.ReLU(),
        nn.Dropout(AFTER_HIDDEN),
    )

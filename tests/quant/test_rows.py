"""Rows are output channels, however a weight lies in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sqtune.quant import (
    Binary,
    StochasticQuantization,
)
from sqtune.quant.layers import from_rows, to_rows

# Layers: rows are output channels, however a weight lies in memory.

LAYERS = {
    "conv3d": lambda: nn.Conv3d(2, 6, (1, 2, 3)),
    "conv3d_channels_last": lambda: nn.Conv3d(2, 6, 2).to(memory_format=torch.channels_last_3d),
    "transposed1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "transposed2d": lambda: nn.ConvTranspose2d(4, 6, 3),
    "transposed2d_groups": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed3d_depthwise": lambda: nn.ConvTranspose3d(4, 4, 2, groups=4),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "depthwise_channels_last": lambda: nn.Conv2d(6, 6, 3, groups=6).to(
        memory_format=torch.channels_last
    ),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "linear_of_one": lambda: nn.Linear(1, 1),
}


def channel(layer: nn.Module, index: int) -> Tensor:
    """Return the weights that an output channel is made of, found without knowing the layout."""
    weight = torch.zeros_like(layer.weight, requires_grad=True)
    dimensions = layer.weight.dim() - 2
    x = torch.ones(1, getattr(layer, "in_channels", 1), *[5] * dimensions)
    y = torch.func.functional_call(layer, {"weight": weight}, (x,))
    y[0, index].sum().backward()
    return layer.weight.detach()[weight.grad != 0]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_a_row_is_all_that_an_output_channel_is_made_of(kind: str, step: str) -> None:
    layer = LAYERS[kind]()
    strides = layer.weight.stride()
    sq = StochasticQuantization(nn.Sequential(layer), Binary(), step=step)
    num_channels = layer.bias.numel()
    scales = [channel(layer, index).abs().mean() for index in range(num_channels)]
    with sq.quantized():
        for index, scale in enumerate(scales):
            torch.testing.assert_close(
                channel(layer, index).abs(), scale.expand(channel(layer, index).shape)
            )
    with sq.hybrid(ratio=0.5):
        mask_O = sq.state_dict()["masks"]["0.weight"]
        assert len(mask_O) == num_channels
        for index, taken in enumerate(mask_O):
            is_binary = len(channel(layer, index).abs().unique()) == 1
            assert is_binary == (bool(taken) or channel(layer, index).numel() == 1)
    assert layer.weight.stride() == strides
    frozen = sq.freeze()["0.weight"]
    assert torch.equal(frozen.values(), layer.weight)
    torch.testing.assert_close(frozen.scale_O, torch.stack(scales))
    assert frozen.codes.shape == layer.weight.shape


@pytest.mark.parametrize("kind", LAYERS)
def test_rows_there_and_back_are_the_weight(kind: str) -> None:
    layer = LAYERS[kind]()
    groups = layer.groups if "transposed" in kind else 0
    rows_OK = to_rows(layer.weight.detach(), groups)
    assert rows_OK.shape == (layer.bias.numel(), layer.weight.numel() // layer.bias.numel())
    back = from_rows(rows_OK, layer.weight, groups)
    assert torch.equal(back, layer.weight)
    assert back.stride() == layer.weight.stride()


def test_rows_of_common_layouts_are_views() -> None:
    for layer in (nn.Conv2d(4, 6, 3), nn.Linear(5, 3)):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            weight = layer.weight.detach()
            if weight.dim() == 4:
                weight = weight.to(memory_format=memory_format)
            assert to_rows(weight).data_ptr() == weight.data_ptr()

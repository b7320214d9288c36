"""AlexNet-BN: the paper's layers in AlexNet's order, with AlexNet's maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sqtune.errors import NetworkError
from sqtune.networks import AlexNetBn, build, check_image_size


def test_the_paper_s_network_counted_by_hand():
    convolutions = 121 * 3 * 96 + 25 * 96 * 256 + 9 * (256 * 384 + 384 * 384 + 384 * 256)
    hidden = 6 * 6 * 256 * 4096 + 4096 * 4096
    batch_norm = 2 * (96 + 256 + 384 + 384 + 256 + 4096 + 4096)
    head = 4096 * 1000 + 1000
    assert convolutions + hidden + batch_norm + head == 62_387_912


def test_layers_stand_in_the_paper_s_order():
    order = []
    for module in build(AlexNetBn(), 3, 1000, (224, 224)).modules():
        match module:
            case nn.Conv2d(kernel_size=(k, _), stride=(s, _), padding=(p, _), out_channels=n):
                assert (module.groups, module.bias) == (1, None)
                order.append(f"conv {k}x{k}/{s} pad {p}: {n}")
            case nn.Linear(out_features=n):
                order.append(f"fc {n}")
            case nn.MaxPool2d(kernel_size=k, stride=s, padding=0):
                order.append(f"pool {k}/{s}")
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                order.append("norm")
            case nn.ReLU():
                order.append("relu")
            case nn.Dropout(p=p):
                order.append(f"drop {p}")
    after = ["norm", "relu"]
    assert order == [
        *["conv 11x11/4 pad 2: 96", *after, "pool 3/2"],
        *["conv 5x5/1 pad 2: 256", *after, "pool 3/2"],
        *["conv 3x3/1 pad 1: 384", *after],
        *["conv 3x3/1 pad 1: 384", *after],
        *["conv 3x3/1 pad 1: 256", *after, "pool 3/2"],
        *["fc 4096", *after, "drop 0.5"],
        *["fc 4096", *after, "drop 0.5"],
        "fc 1000",
    ]


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((224, 224), [(55, 55), (27, 27), (13, 13), (6, 6)]),
        ((227, 227), [(56, 56), (27, 27), (13, 13), (6, 6)]),
        ((63, 96), [(15, 23), (7, 11), (3, 5), (1, 2)]),
    ],
)
def test_maps_are_alexnet_s_and_the_hidden_layer_follows_them(size, maps):
    model = build(AlexNetBn(width=3), 1, 7, size).eval()
    x, seen = torch.zeros(2, 1, *size), []
    for layer in model.features:
        x = layer(x)
        seen.append(tuple(x.shape[2:]))
    assert [seen[index] for index in (0, 1, 3, 7)] == maps
    assert model.hidden1[0].in_features == 8 * maps[-1][0] * maps[-1][1]
    assert model(torch.zeros(2, 1, *size)).shape == (2, 7)


def test_width_scales_every_layer():
    rows = [
        module.weight.shape[0]
        for module in build(AlexNetBn(width=13), 3, 5, (63, 63)).modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    assert rows == [13, 34, 52, 52, 34, 554, 554, 5]


def test_an_image_below_63x63_is_refused():
    with pytest.raises(NetworkError, match=r"alexnet_bn is too deep for images of 64x62.*63x63"):
        check_image_size(AlexNetBn(), 64, 62)
    with pytest.raises(NetworkError, match="too deep"):
        build(AlexNetBn(), 3, 10, (32, 32))

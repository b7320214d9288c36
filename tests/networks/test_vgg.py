"""VGG-9: the paper's layers in the paper's order, and their parameters counted by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from sqtune.config import TrialConfig
from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.deploy.sizes.footprint import footprint
from sqtune.errors import NetworkError
from sqtune.networks import Vgg9, build, check_image_size
from sqtune.quant import Float
from sqtune.train.checkpoint import load_network
from sqtune.train.loop import saved_error, train


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_paper_s_network_counted_by_hand():
    convolutions = 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
    hidden = 4 * 4 * 256 * 512 + 512 * 512
    batch_norm = 2 * (2 * 64 + 2 * 128 + 2 * 256 + 2 * 512)
    head = 512 * 10 + 10
    assert convolutions + hidden + batch_norm + head == 3_512_778
    assert num_parameters(build(Vgg9(), 3, 10)) == 3_512_778


@pytest.mark.parametrize(
    ("size", "places"), [((8, 8), 1), ((15, 16), 2), ((32, 32), 16), ((64, 33), 32)]
)
def test_the_first_hidden_layer_follows_the_image(size, places):
    model = build(Vgg9(width=2), 1, 7, size)
    convolutions = 9 * (1 * 2 + 2 * 2 + 2 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
    batch_norm = 2 * (2 * 2 + 2 * 4 + 2 * 8 + 2 * 16)
    rest = 16 * 16 + 16 * 7 + 7
    assert num_parameters(model) == convolutions + batch_norm + places * 8 * 16 + rest
    assert model(torch.zeros(2, 1, *size)).shape == (2, 7)


def test_layers_stand_in_the_paper_s_order():
    kinds = {
        nn.Conv2d: "conv",
        nn.BatchNorm2d: "norm",
        nn.BatchNorm1d: "norm",
        nn.ReLU: "relu",
        nn.MaxPool2d: "pool",
        nn.Linear: "fc",
    }
    order = []
    for module in build(Vgg9(width=2), 3, 10).modules():
        if isinstance(module, nn.Dropout):
            order.append(f"drop {module.p}")
        elif type(module) in kinds:
            order.append(kinds[type(module)])
    group = [*["conv", "norm", "relu"] * 2, "pool", "drop 0.25"]
    assert order == [*group * 3, *["fc", "norm", "relu", "drop 0.5"] * 2, "fc"]


def test_an_image_below_8x8_is_refused():
    with pytest.raises(NetworkError, match=r"vgg9 is too deep for images of 32x7.*8x8"):
        check_image_size(Vgg9(), 32, 7)
    with pytest.raises(NetworkError, match="too deep"):
        build(Vgg9(), 3, 10, (7, 32))


def test_the_predicted_size_follows_the_image():
    config = TrialConfig(network=Vgg9(width=2), quantizer=Float())
    small, large = (
        footprint(config, in_channels=1, num_classes=10, image_size=(side, side)).size_bytes
        for side in (8, 16)
    )
    assert large - small == 4 * 3 * 8 * 16  # three more places of 8 channels to 16 neurons


def test_it_trains_on_digits_and_comes_back_from_disk(tmp_path):
    splits = prepare(Digits())
    config = TrialConfig(network=Vgg9(width=4), num_epochs=2)
    first, last = train(config, splits=splits, save_to=tmp_path / "network", num_threads=1)
    assert last.train_loss < first.train_loss
    assert saved_error(tmp_path / "network", splits, "validation") == last.val_error
    assert load_network(tmp_path / "network").about.image_size == (8, 8)
    again = list(train(config, splits=splits, num_threads=1))
    both = [dataclasses.replace(result, images_per_second=0.0) for result in (last, again[-1])]
    assert both[0] == both[1]  # dropout included

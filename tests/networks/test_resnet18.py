"""ResNet-18: torchvision's function and its names."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from sqtune.errors import NetworkError
from sqtune.networks import ResNet18, build, check_image_size


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_usual_network_counted_by_hand():
    stem = 49 * 3 * 64
    group1 = 9 * 4 * 64 * 64
    groups = sum(9 * (n * 2 * n + 3 * (2 * n) ** 2) + n * 2 * n for n in (64, 128, 256))
    batch_norm = 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))
    head = 512 * 1000 + 1000
    assert stem + group1 + groups + batch_norm + head == 11_689_512
    assert num_parameters(build(ResNet18(), 3, 1000, (224, 224))) == 11_689_512


def test_width_channels_and_classes_scale_what_they_should():
    stem = 49 * 1 * 4
    group1 = 9 * 4 * 4 * 4
    groups = sum(9 * (n * 2 * n + 3 * (2 * n) ** 2) + n * 2 * n for n in (4, 8, 16))
    batch_norm = 2 * (4 + 4 * 4 + 5 * (8 + 16 + 32))
    expected = stem + group1 + groups + batch_norm + 32 * 7 + 7
    assert num_parameters(build(ResNet18(width=4), 1, 7)) == expected


@pytest.mark.parametrize("size", [(32, 32), (65, 97), (224, 224)])
@pytest.mark.parametrize("training", [True, False])
def test_with_torchvision_s_weights_it_is_torchvision_s_function(size, training):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = models.resnet18(weights=None, num_classes=10)
        images = torch.randn(2, 3, *size)
    ours = build(ResNet18(), 3, 10, size)
    ours.load_state_dict(theirs.state_dict())
    outputs = [model.train(training)(images) for model in (ours, theirs)]
    torch.testing.assert_close(outputs[0], outputs[1])
    for name, value in theirs.state_dict().items():  # batch norm's statistics too
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_fresh_weights_are_spread_like_torchvision_s():
    theirs = models.resnet18(weights=None, num_classes=10)
    for name, weight in build(ResNet18(), 3, 10).named_parameters():
        if weight.dim() == 4:
            expected = theirs.get_parameter(name).std().item()
            assert weight.std().item() == pytest.approx(expected, rel=0.1)


def test_an_image_below_32x32_is_refused():
    with pytest.raises(NetworkError, match=r"resnet18 is too deep for images of 31x32.*32x32"):
        check_image_size(ResNet18(), 31, 32)
    with pytest.raises(NetworkError, match="too deep"):
        build(ResNet18(), 3, 10, (8, 8))

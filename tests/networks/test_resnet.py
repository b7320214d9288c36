"""Residual networks: the paper's shapes and parameter counts."""

from __future__ import annotations

import pytest
import torch

from sqtune.config import TrialConfig
from sqtune.deploy.sizes.footprint import footprint
from sqtune.errors import NetworkError
from sqtune.networks import ResNet, build, check_image_size
from sqtune.quant import Binary, Float, Ternary, Uniform


def num_weights(depth: int, width: int, channels: int) -> int:
    """Return the convolution and classifier weights, counted layer by layer."""
    blocks, total, before = (depth - 2) // 6, 9 * channels * width, width
    for out in (width, 2 * width, 4 * width):
        total += 9 * before * out + (2 * blocks - 1) * 9 * out * out
        total += 4 * before * out if before != out else 0  # 2x2 projection
        before = out
    return total + 10 * 4 * width


def num_rows(depth: int, width: int) -> int:
    """Return the filters and neurons that have a scale and a bias."""
    blocks = (depth - 2) // 6
    return width + 2 * blocks * 7 * width + 6 * width + 10


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet32", "resnet56", "resnet110"])
@pytest.mark.parametrize("width", [5, 16])
def test_parameters_are_those_of_the_description(name, width):
    network = ResNet(name, width)
    model = build(network, 3, 10)
    batch_norm = 2 * (num_rows(network.depth, width) - 10)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == num_weights(network.depth, width, 3) + batch_norm + 10


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (16, 16), (32, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_from_8x8_gives_logits(size, channels):
    model = build(ResNet("resnet8", 4), channels, 7)
    assert model(torch.zeros(2, channels, *size)).shape == (2, 7)


def test_a_smaller_image_is_refused():
    with pytest.raises(NetworkError, match=r"too deep for images of 7x9.*8x8"):
        check_image_size(ResNet(), 7, 9)


# resnet8 in an ONNX file (tests/deploy/test_footprint_size.py says of what)
NODES = 212 + 10 * 62 + 22 * (7 + 4) + 7 * 20 + 3 * 24 + 52
UNPACK = 10 * 78 + 9 * 20


@pytest.mark.parametrize(
    ("quantizer", "bytes_of", "unpack"),
    [
        (Binary(), lambda n: -(-n // 8), 360),
        (Ternary(), lambda n: -(-n // 5), 360),
        (Uniform(bits=2), lambda n: -(-n // 4), 360),
        (Uniform(bits=3), lambda n: 3 * -(-n // 8), 450),
        (Uniform(bits=4), lambda n: -(-n // 2), 360),
        (Uniform(bits=8), lambda n: n, 50),
    ],
    ids=["binary", "ternary", "2 bits", "3 bits", "4 bits", "8 bits"],
)
def test_the_predicted_size_adds_up_by_hand(quantizer, bytes_of, unpack):
    expected = bytes_of(num_weights(8, 16, 1)) + 8 * num_rows(8, 16) + NODES + UNPACK + unpack
    config = TrialConfig(network=ResNet("resnet8", 16), quantizer=quantizer)
    assert (
        footprint(config, in_channels=1, num_classes=10, image_size=(32, 32)).size_bytes == expected
    )


def test_a_float_networks_size_is_its_weights_and_biases():
    config = TrialConfig(network=ResNet("resnet8", 16), quantizer=Float())
    size = footprint(config, in_channels=1, num_classes=10, image_size=(32, 32)).size_bytes
    assert size == 4 * num_weights(8, 16, 1) + 4 * num_rows(8, 16) + NODES

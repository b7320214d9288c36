"""Predicted sizes against real files: never below, and close; and the bound of the format."""

from __future__ import annotations

import pytest
import torch
from small_networks import trained, with_statistics
from torch import nn

from sqtune.config import TrialConfig
from sqtune.deploy.lower import lower
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.sizes.footprint import footprint
from sqtune.deploy.sizes.structure import structure
from sqtune.networks import AlexNetBn, ResNet, ResNet18, Torchvision, Vgg9, build
from sqtune.quant import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
    packed_bytes,
)
from sqtune.quant.rules import assign_quantizers

RESNET20, SMALL = ResNet("resnet20", 16), ResNet("resnet8", 8)
QUANTIZERS = [
    Float(),
    Binary(),
    Ternary(),
    LearnedTernary(),
    *(Uniform(bits=bits) for bits in range(2, 9)),
    LearnedUniform(bits=3),
]
MIXED = {
    "quantizer": Binary(),
    "keep_float": ["head"],
    "overrides": [
        {"match": "stem", "quantizer": Uniform(bits=4)},
        {"match": "group2", "quantizer": LearnedTernary()},
    ],
}


@torch.no_grad()
def in_use(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Give a network biases, and batch norms the statistics of images: no value dies out."""
    with_statistics(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
        elif getattr(module, "bias", None) is not None:
            module.bias.uniform_(-0.3, 0.3)
    model.train()(torch.randn(32, *shape))
    return model.eval()


def sizes(network, shape, num_classes: int = 10, **fields: object) -> tuple[int, int]:
    """Return (predicted, real)."""
    config = TrialConfig.model_validate({"network": network, **fields}, strict=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = in_use(build(network, shape[0], num_classes, shape[1:]), shape)
    rules, activations = config.rules, config.activations
    what, _ = trained(model, config.quantizer, shape=shape, activations=activations, rules=rules)
    predicted = footprint(
        config, in_channels=shape[0], num_classes=num_classes, image_size=shape[1:]
    )
    return predicted.size_bytes, len(onnx_file(lower(what), "onnx").data)


def check(most: float, *args: object, **fields: object) -> None:
    predicted, real = sizes(*args, **fields)
    assert real <= predicted <= (1 + most) * real, f"{predicted / real - 1:.2%}"


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_resnet20_within_2_percent(quantizer):
    check(0.02, RESNET20, (3, 32, 32), quantizer=quantizer)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("quantizer", [Binary(), Ternary(), Uniform(bits=8)], ids=str)
def test_resnet20_with_low_bit_activations_within_2_percent(quantizer, bits):
    check(0.02, RESNET20, (3, 32, 32), quantizer=quantizer, activation_bits=bits)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"activation_bits": 8},
        {"activation_bits": 4, "activation_clipping": "pact"},
        {"activation_bits": 2, "activation_ends_bits": 32},
    ],
    ids=str,
)
def test_mixed_rules_within_2_percent(more):
    check(0.02, RESNET20, (3, 32, 32), **MIXED, **more)


@pytest.mark.parametrize("activations", [32, 8, 4])
@pytest.mark.parametrize(
    ("network", "shape", "num_classes", "most"),
    [
        (Vgg9(width=16), (3, 32, 32), 10, 0.03),
        (ResNet18(width=16), (3, 64, 64), 100, 0.02),
        (AlexNetBn(width=12), (3, 64, 64), 100, 0.03),
        (Torchvision("mobilenet_v2"), (3, 32, 32), 10, 0.005),
    ],
    ids=["vgg9", "resnet18", "alexnet_bn", "mobilenet_v2"],
)
def test_other_networks_within_little(network, shape, num_classes, most, activations):
    given = (network, shape, num_classes)
    check(most, *given, quantizer=Binary(), activation_bits=activations)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_a_network_that_is_nearly_all_format_is_within_70_bytes_a_layer(quantizer):
    predicted, real = sizes(SMALL, (1, 8, 8), quantizer=quantizer, activation_bits=2)
    assert real <= predicted <= real + 70 * 10


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_networks_of_other_operations_within_4_percent(name):
    check(0.04, Torchvision(name), (3, 64, 64), quantizer=Binary())


def bound(network, quantizer: Quantizer, shape) -> int:
    """Return payload, float rest and 350 bytes a layer, 450 with bit planes."""
    net = structure(network, shape[0], 10, shape[1:])
    assigned = assign_quantizers([layer.name for layer in net.layers], quantizer, ())
    has_planes = quantizer.bits in (3, 5, 6, 7)
    total = 4 * net.other_numbers
    for layer in net.layers:
        total += packed_bytes(layer.num_weights, assigned[layer.name]) + 4 * layer.num_rows
        total += 0 if quantizer == Float() else 4 * layer.num_rows
        total += 450 if has_planes else 350
    return total


@pytest.mark.parametrize("network", [RESNET20, SMALL, Vgg9(width=8), ResNet18(width=4)], ids=str)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_a_prediction_is_within_350_bytes_a_layer_and_so_is_the_file(network, quantizer):
    config = TrialConfig(network=network, quantizer=quantizer)
    found = footprint(config, in_channels=3, num_classes=10, image_size=(32, 32)).size_bytes
    assert found <= bound(network, quantizer, (3, 32, 32))

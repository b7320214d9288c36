"""Layers, multiply-adds and float numbers: by hand, and against torch's own counter."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sqtune.deploy.sizes.structure import structure, trace
from sqtune.networks import AlexNetBn, ResNet, ResNet18, Torchvision, Vgg9, build


def traced(model, *shape):
    return trace(model.eval(), torch.zeros(1, *shape))


@contextmanager
def unfused_attention():
    torch.backends.mha.set_fastpath_enabled(False)  # torch's counter knows no fused one
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def test_a_small_resnet8_by_hand():
    net = structure(ResNet("resnet8", 2), 1, 3, (8, 8))
    assert {layer.name: layer.macs for layer in net.layers} == {
        "stem": 18 * 64,
        "group1.0.conv1": 36 * 64,
        "group1.0.conv2": 36 * 64,
        "group2.0.conv1": 72 * 16,
        "group2.0.conv2": 144 * 16,
        "group2.0.shortcut.0": 32 * 16,
        "group3.0.conv1": 288 * 4,
        "group3.0.conv2": 576 * 4,
        "group3.0.shortcut.0": 128 * 4,
        "head": 24,
    }
    assert (net.other_macs, net.other_numbers) == (0, 0)
    assert [layer.num_rows for layer in net.layers] == [2, 2, 2, 4, 4, 4, 8, 8, 8, 3]


@pytest.mark.parametrize(
    ("module", "shape", "macs", "num_rows"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5), 6 * 2 * 9 * 9, 6),  # 3x3 places
        (nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), (4, 5, 5), 4 * 9 * 9, 4),
        (nn.Conv1d(2, 3, 5, dilation=2), (2, 12), 2 * 3 * 5 * 4, 3),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 2 * 8 * 8, 2),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 3, 3), 4 * 6 * 4 * 9, 6),
        (nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2), (4, 3, 3), 4 * 2 * 4 * 9, 4),
        (nn.Linear(5, 7), (5,), 35, 7),
        (nn.Linear(5, 7), (3, 5), 3 * 35, 7),  # at three places
        (nn.Linear(5, 7, bias=False), (2, 3, 5), 6 * 35, 7),
    ],
    ids=str,
)
def test_a_layer_s_multiply_adds_by_hand(module, shape, macs, num_rows):
    (layer,) = traced(nn.Sequential(module), *shape).layers
    assert (layer.macs, layer.num_rows) == (macs, num_rows)
    assert layer.num_weights == module.weight.numel()


def test_a_weight_that_is_used_twice_counts_each_use():
    module = nn.Conv2d(2, 2, 3, padding=1)
    (layer,) = traced(nn.Sequential(module, nn.ReLU(), module), 2, 4, 4).layers
    assert layer.macs == 2 * 36 * 16


def test_attention_counts_beside_the_layers():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.heads(x, x, x, need_weights=False)[0]

    net = traced(Attention(), 5, 8)  # 5 places of 8 channels
    (out,) = net.layers
    assert (out.name, out.macs) == ("heads.out_proj", 5 * 64)
    # queries, keys and values; then 5x5 products of 8 channels, twice
    assert net.other_macs == 5 * 8 * 24 + 2 * 25 * 8
    assert net.other_numbers == 24 * 8 + 24


def test_a_norm_that_no_layer_can_take_up_keeps_its_numbers():
    behind = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert traced(behind, 1, 5, 5).other_numbers == 0
    before = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    assert traced(before, 1, 5, 5).other_numbers == 8
    other = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.PReLU())
    assert traced(other, 1, 5, 5).other_numbers == 8 + 1


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (ResNet("resnet20", 4), 32),
        (ResNet("resnet8", 3), 11),
        (Vgg9(width=4), 20),
        (ResNet18(width=8), 64),
        (AlexNetBn(width=6), 66),
        (Torchvision("mobilenet_v3_small"), 64),
        (Torchvision("shufflenet_v2_x0_5"), 64),
        (Torchvision("densenet121"), 64),
        (Torchvision("squeezenet1_1"), 64),
        (Torchvision("vit_b_16"), 32),
        (Torchvision("swin_t"), 64),
    ],
    ids=str,
)
def test_all_multiply_adds_are_those_that_torch_counts(network, size):
    net = structure(network, 3, 10, (size, size))
    counter = FlopCounterMode(display=False)
    model = build(network, 3, 10, (size, size)).eval()
    with unfused_attention(), torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size))
    macs = sum(layer.macs for layer in net.layers) + net.other_macs
    assert 2 * macs == counter.get_total_flops()
    if not isinstance(network, Torchvision):
        assert net.other_macs == net.other_numbers == 0


def test_all_parameters_are_weights_biases_or_other_numbers():
    for name in ("convnext_tiny", "vit_b_16"):
        network = Torchvision(name)
        net = structure(network, 3, 10, (32, 32))
        model = build(network, 3, 10, (32, 32))
        biases = sum(
            module.bias.numel()
            for module in model.modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None
        )
        weights = sum(layer.num_weights for layer in net.layers)
        total = sum(parameter.numel() for parameter in model.parameters())
        assert net.other_numbers == total - weights - biases > 0


def test_looking_draws_no_random_number_and_leaves_attention_as_it_was():
    state = torch.get_rng_state()
    fast = torch.backends.mha.get_fastpath_enabled()
    structure(ResNet("resnet8", 7), 3, 10, (16, 16))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_looking_imports_no_compiler():
    code = """
import sys
from sqtune.deploy.sizes.structure import structure
from sqtune.networks import ResNet
structure(ResNet("resnet8", 7), 3, 10, (16, 16))
heavy = {"torch._dynamo", "torch._inductor", "triton", "torchvision"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

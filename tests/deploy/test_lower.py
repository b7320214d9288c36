"""A lowered graph gives the trained network's logits, and holds its codes untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_networks import images, small_graph, trained, with_statistics
from torch import nn

from sqtune.deploy.graph import Affine, Packed, Quantize
from sqtune.deploy.lower import lower
from sqtune.deploy.run import run
from sqtune.errors import ExportError
from sqtune.networks import ResNet, Torchvision, Vgg9
from sqtune.quant import (
    Activations,
    Binary,
    Float,
    LayerRule,
    LearnedTernary,
    LearnedUniform,
    Ternary,
    Uniform,
)

QUANTIZERS = [Float(), Binary(), Ternary(), LearnedTernary()]
QUANTIZERS += [kind(bits=bits) for kind in (Uniform, LearnedUniform) for bits in (2, 3, 4, 8)]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_the_graph_gives_the_networks_logits(quantizer):
    graph, logits = small_graph(quantizer)
    torch.testing.assert_close(run(graph, images(16)), logits, rtol=1e-5, atol=1e-6)
    assert all(isinstance(layer.weight, Packed) != (quantizer == Float()) for layer in graph.layers)
    assert not any(isinstance(node, Affine) for node in graph.nodes)  # every norm was taken up


@pytest.mark.parametrize(
    "network",
    [
        ResNet("resnet20", 4),
        Vgg9(width=4),
        Torchvision("mobilenet_v2"),
        Torchvision("mobilenet_v3_small"),
        Torchvision("shufflenet_v2_x0_5"),
        Torchvision("squeezenet1_1"),
        Torchvision("densenet121"),
        Torchvision("googlenet"),
        Torchvision("regnet_y_400mf"),
        Torchvision("efficientnet_b0"),
        Torchvision("convnext_tiny"),
    ],
    ids=lambda network: getattr(network, "model", network.name),
)
def test_networks_of_all_kinds(network):
    side = 33 if isinstance(network, Torchvision) else 13
    graph, logits = small_graph(Ternary(), network, shape=(3, side, side))
    assert torch.isfinite(logits).all()
    assert logits.std(dim=0).max() > 0
    torch.testing.assert_close(
        run(graph, images(16, (3, side, side))), logits, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("clipping", ["lsq", "pact"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_inputs_of_layers_on_their_grids(bits, clipping):
    graph, logits = small_graph(Binary(), activations=Activations(bits, clipping))
    grids = [node.grid for node in graph.nodes if isinstance(node, Quantize)]
    assert [grid.bits for grid in grids] == [8] + [bits] * 8 + [8]
    assert (grids[0].low, grids[0].top) == (-127, 127)
    assert (grids[1].low, grids[1].top) == (0, 2**bits - 1)
    error = (run(graph, images(16)) - logits).abs().amax(dim=1)
    assert (error < 1e-5).float().mean() > 0.8  # a sum that is rounded otherwise may move a level


def test_codes_are_those_of_training_and_scales_take_up_the_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=True), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(6 * 100, 4))
    what, _ = trained(with_statistics(model), Ternary())
    graph = lower(what)
    weight = graph.layers[0].weight
    frozen = what.layers["0.weight"]
    assert np.array_equal(weight.codes, frozen.codes.numpy())
    norm = model[1]
    factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    assert (factor < 0).any()
    torch.testing.assert_close(torch.from_numpy(weight.scale_O), frozen.scale_O * factor)
    assert np.array_equal(weight.values(), weight.codes * weight.scale_O[:, None, None, None])


def test_half_integers_are_doubled_exactly():
    graph, _ = small_graph(Uniform(bits=2))
    weight = graph.layers[0].weight
    assert set(np.unique(weight.levels)) <= {-3, -1, 1, 3}
    scale = weight.scale_O[:, None, None, None]
    assert np.array_equal(weight.values(), (weight.codes + np.float32(0.5)) * scale)


def test_rules_leave_layers_float():
    graph, logits = small_graph(Binary(), rules=(LayerRule("stem|head", Float()),))
    assert [isinstance(layer.weight, Packed) for layer in graph.layers] == [
        False,
        *[True] * 8,
        False,
    ]
    torch.testing.assert_close(run(graph, images(16)), logits, rtol=1e-5, atol=1e-6)


class Odd(nn.Module):
    """What changes its input in place, and reads it again."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.average = nn.AvgPool2d(2, padding=1)
        self.head = nn.Linear(4 * 4, 5)

    def forward(self, x):
        x = self.norm(self.conv(x))
        y = x.relu_()
        y = self.pool(x + y)  # both are the same by now
        y = self.average(torch.cat([y[:, :2], y.chunk(2, dim=1)[1]], dim=1))
        return self.head(y.transpose(2, 3).contiguous().view(-1, 16))


def test_in_place_operations_rounded_up_windows_and_padding_that_counts():
    torch.manual_seed(0)
    what, logits = trained(with_statistics(Odd()), Uniform(bits=4))
    torch.testing.assert_close(run(lower(what), images(16)), logits, rtol=1e-5, atol=1e-6)


class Alone(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.kind = kind
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.kind(self.body(x)).mean(dim=(2, 3)))


class Cumulated(nn.Module):
    def forward(self, x):
        return x.cumsum(dim=1)


class OverImages(nn.Module):
    def forward(self, x):
        return x.roll(1, 0) if x.shape[1] == 1 else torch.cat([x, x], dim=0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Cumulated(), "kind: aten.cumsum is not known to any form"),
        (OverImages(), "kind: aten.cat mixes images with each other"),
        (nn.BatchNorm2d(4, track_running_stats=False), "kind: a batch norm without running"),
        (nn.AdaptiveAvgPool2d(3), "kind: aten.adaptive_avg_pool2d from 10x10 to 3x3 has windows"),
        (nn.MaxPool2d(2, dilation=2), "kind: aten.max_pool2d with dilation"),
        (nn.GELU("tanh"), "kind: aten.gelu with an approximation"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_no_form_knows_is_refused_by_the_name_of_its_layer(kind, message):
    what, _ = trained(Alone(kind), Binary())
    with pytest.raises(ExportError, match=message):
        lower(what)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 5)

    def forward(self, x):
        x = x.mean(dim=(2, 3))
        return self.body(x) if x.sum() > 0 else -self.body(x)


def test_a_network_that_decides_by_its_input_cannot_be_traced():
    what, _ = trained(Branching(), Binary())
    with pytest.raises(ExportError, match="Branching cannot be traced"):
        lower(what)

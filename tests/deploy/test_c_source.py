"""What the C form says and refuses, and its finer points, on graphs made by hand."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from c_models import library, logits
from small_networks import images, small_graph, trained, with_statistics
from torch import nn

from sqtune.deploy.c.source import c_source
from sqtune.deploy.graph import Conv, Graph, Grid, LayerNorm, Linear, Packed, Quantize, Reshape
from sqtune.deploy.integers.calibrate import calibrate
from sqtune.deploy.lower import lower
from sqtune.deploy.run import run
from sqtune.errors import ExportError
from sqtune.networks import Torchvision
from sqtune.quant import Activations, Binary, Ternary, Uniform

PIXELS = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_rounding_is_half_to_even_and_ends_are_clipped(bits, signed, tmp_path):
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    grid = Grid(bits, -top if signed else 0, top, 2.0)
    nodes = (
        Quantize(name="rounding", inputs=(0,), output=1, grid=grid),
        Reshape(name="flat", inputs=(1,), output=2),
    )
    shapes = ((1, 16, 16), (1, 16, 16), (256,))
    # pixels as they are, or less 128: every other one is half-way between two codes
    graph = Graph(nodes, shapes, 2, ("?",) * 256, (128 / 255 if signed else 0.0,), (1 / 255,))
    values = (PIXELS.float() - graph.pixel_mean_C[0]) * graph.pixel_scale_C[0]
    assert (values % 2 == 1).float().mean() == 0.5
    source = c_source(graph)
    made = logits(library([source], tmp_path), source, PIXELS)
    assert np.array_equal(made, run(graph, PIXELS).numpy())
    least, most = (-128, 128) if signed else (0, 256)  # what the image has, rounded
    assert (made.min(), made.max()) == (max(2 * grid.low, least), min(2 * top, most))


@pytest.mark.parametrize("bits", [8, 4])
def test_calibrated_networks_give_the_same_logits(bits, tmp_path):
    graph, _ = small_graph(Ternary())
    graph = calibrate(graph, images(8), bits)
    source = c_source(graph)
    made = logits(library([source], tmp_path), source, images(8))
    expected = run(graph, images(8)).numpy()
    assert np.median(np.abs(made - expected).max(axis=1)) < 1e-6


def test_a_network_with_depthwise_convolutions_and_squeezing(tmp_path):
    network, shape = Torchvision("mobilenet_v3_small"), (3, 33, 33)
    graph, _ = small_graph(Ternary(), network, shape=shape, activations=Activations(8))
    source = c_source(graph)
    made = logits(library([source], tmp_path), source, images(3, shape))
    expected = run(graph, images(3, shape)).numpy()
    assert np.median(np.abs(made - expected).max(axis=1)) < 1e-5


class Once(nn.Module):
    def __init__(self, body, image=True):
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 3)
        self.image = image

    def forward(self, x):
        x = self.body(x) if self.image else self.body(x.flatten(2))
        return self.head(x.flatten(2).mean(dim=2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Once(nn.Conv1d(3, 4, 3), image=False), "body: a convolution of 1-D images is not known"),
        (Once(nn.Conv2d(3, 4, 3, padding=300)), "body: top is at most 255 in C, not 300"),
    ],
    ids=["1-D", "padding"],
)
def test_what_c_does_not_know_is_refused_by_the_name_of_its_layer(model, message):
    what, _ = trained(with_statistics(model), Binary())
    with pytest.raises(ExportError, match=f"{message}.*Take --form onnx"):
        c_source(lower(what))


def test_a_norm_over_channels_is_refused():
    ones = np.ones(4, np.float32)
    flat = Reshape(name="flat", inputs=(0,), output=1)
    norm = LayerNorm(name="norm", inputs=(1,), output=2, scale=ones, shift=ones, epsilon=1e-5)
    graph = Graph((flat, norm), ((1, 2, 2), (4,), (4,)), 2, ("?",) * 4, (0.0,), (1.0,))
    with pytest.raises(ExportError, match="norm: LayerNorm is not known to the C form"):
        c_source(graph)


def _linear(num_inputs):
    codes = np.full((2, num_inputs), 127, np.int8)
    weight = Packed("head.weight", Uniform(bits=8), codes, np.ones(2, np.float32), 0.0)
    nodes = (
        Reshape(name="flat", inputs=(0,), output=1),
        Quantize(name="head", inputs=(1,), output=2, grid=Grid(8, 0, 255, 1.0)),
        Linear(name="head", inputs=(2,), output=3, weight=weight, bias_O=np.zeros(2, np.float32)),
    )
    shapes = ((1, 1, num_inputs), (num_inputs,), (num_inputs,), (2,))
    return Graph(nodes, shapes, 3, ("a", "b"), (0.0,), (1 / 255,))


def test_sums_are_exact_up_to_32_bits_and_refused_beyond(tmp_path):
    most = (2**31 - 1) // (127 * 255)
    source = c_source(_linear(most))
    white = torch.full((1, 1, 1, most), 255, dtype=torch.uint8)
    made = logits(library([source], tmp_path), source, white)
    assert made[0, 0] == np.float32(most * 127 * 255)
    with pytest.raises(ExportError, match=r"head: sums of up to .* do not fit into 32 bits"):
        c_source(_linear(most + 1))


def test_numbers_that_are_not_finite_are_refused():
    graph, _ = small_graph(Binary())
    (place,) = [i for i, node in enumerate(graph.nodes) if node is graph.layers[1]]
    broken = replace(graph.layers[1], bias_O=np.full(4, np.nan, np.float32))
    nodes = (*graph.nodes[:place], broken, *graph.nodes[place + 1 :])
    assert isinstance(broken, Conv)
    with pytest.raises(ExportError, match="conv1: biases are not finite"):
        c_source(replace(graph, nodes=nodes))


@pytest.mark.parametrize("name", ["", "Model", "1st", "a-b", "a b", "ä"])
def test_names_that_c_does_not_take_are_refused(name):
    with pytest.raises(ExportError, match="cannot stand in front of C names"):
        c_source(_linear(4), name)


@pytest.mark.parametrize(
    "names", [('a "quoted" one', "back\\slash"), ("??/ trigraph", "Größe\n2"), ("%d", "\0017")]
)
def test_class_names_are_written_so_that_c_reads_them_back(names, tmp_path):
    source = c_source(replace(_linear(4), classes=names))
    shown = f"{source.source}\nconst char *const names[] = MODEL_CLASS_NAMES;\n"
    made = library([replace(source, source=shown)], tmp_path)
    found = (ctypes.c_char_p * 2).in_dll(made, "names")
    assert [text.decode() for text in found] == list(names)


def test_only_what_a_network_needs_is_in_its_source():
    graph, _ = small_graph(Binary(), activations=Activations(4))
    source = c_source(graph).source
    for absent in ("malloc", "math.h", "unpack_4_bits", "pool_", "ternary", "convolve_levels_u2"):
        assert absent not in source
    for present in ("unpack_binary", "convolve_levels_u4", "convolve_levels_s8", "store_4"):
        assert present in source
    assert source.count("#include") == 3


def test_the_same_graph_gives_the_same_text():
    graph, _ = small_graph(Ternary(), activations=Activations(4))
    assert c_source(graph) == c_source(graph)

"""Networks trained with inputs on grids are exported in float operations, as they were trained."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_checks import as_its_twin, bound, close, evaluated, expected, logits
from random_graphs import QUANTIZERS, Builder, every_layer, pixels
from small_networks import images, small_graph

from sqtune.deploy.graph import Graph, Quantize
from sqtune.deploy.onnx.model import OnnxFile, onnx_file
from sqtune.networks import ResNet, Torchvision, Vgg9
from sqtune.quant import Activations, Binary, Float, LayerRule, Ternary, Uniform

IMAGES = pixels(32)
PICTURES = images(16).numpy()
PACKED = [quantizer for quantizer in QUANTIZERS if quantizer != Float()]
INTEGERS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "BitShift"}


def as_trained(values: np.ndarray, wanted: np.ndarray, most: int = 0) -> None:
    """Check that all classes are the same, and all logits but those of `most` images.

    In so many a sum lay so close to the middle of two levels that another order of adding decided.
    """
    assert (values.argmax(axis=1) == wanted.argmax(axis=1)).all()
    is_other = (np.abs(values - wanted) > 1e-5 * np.abs(wanted).max()).any(axis=1)
    assert is_other.sum() <= most


def num_roundings(file: OnnxFile) -> int:
    """Return how often a file rounds onto a grid, and check that it does so with floats."""
    names = [node.op_type for node in onnx.load_from_string(file.data).graph.node]
    assert not INTEGERS & set(names)
    return names.count("Round")


def num_on_grids(graph: Graph) -> int:
    """Return how often a graph rounds: what is rounded to one grid twice is rounded once."""
    return len({(n.inputs, n.grid) for n in graph.nodes if isinstance(n, Quantize)})


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("quantizer", PACKED, ids=str)
def test_every_quantizer_with_inputs_on_grids(quantizer, bits):
    graph = every_layer(quantizer, bits)
    file = as_its_twin(graph, IMAGES)
    assert (file.opset, file.ir, file.oldest_runtime) == (13, 7, "1.16.3")
    assert len(file.data) <= bound(graph)
    assert num_roundings(file) == num_on_grids(graph)
    wanted = expected(graph, IMAGES)
    as_trained(logits(file.data, IMAGES), wanted)
    as_trained(logits(file.data, IMAGES, optimise=False), wanted)
    as_trained(evaluated(file.data, IMAGES[:4]), wanted[:4])


@pytest.mark.parametrize("clipping", ["lsq", "pact"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("ends", [8, 32])
def test_trained_grids(bits, clipping, ends):
    graph, trained = small_graph(Binary(), activations=Activations(bits, clipping, ends))
    file = as_its_twin(graph, PICTURES)
    assert num_roundings(file) == num_on_grids(graph)
    as_trained(logits(file.data, PICTURES), trained.numpy(), 1)
    as_trained(logits(file.data, PICTURES, optimise=False), trained.numpy(), 1)
    as_trained(evaluated(file.data, PICTURES[:4]), trained.numpy()[:4], 1)


@pytest.mark.parametrize(
    ("network", "side"),
    [(ResNet("resnet20", 4), 12), (Vgg9(width=4), 13), (Torchvision("mobilenet_v2"), 33)],
    ids=lambda value: getattr(value, "model", type(value).__name__),
)
def test_networks_of_several_kinds(network, side):
    shape = (3, side, side)
    graph, trained = small_graph(Ternary(), network, shape=shape, activations=Activations(4))
    pictures = images(16, shape).numpy()
    file = as_its_twin(graph, pictures)
    assert num_roundings(file) > 0
    as_trained(logits(file.data, pictures), trained.numpy(), 1)


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_signed_grids_end_at_their_lowest_code(bits, form):
    build = Builder()
    step = 0.5 / (2 ** (bits - 1) - 1)  # images go from about -1.3 to 2
    x = build.quantize(0, bits, signed=True, step=step)
    graph = build.graph(build.mean(build.conv(x, 4, 1, quantizer=Ternary())))
    black = np.zeros_like(IMAGES[:2])
    data = as_its_twin(graph, IMAGES, form).data
    close(logits(data, black), expected(graph, black))
    close(logits(data, IMAGES), expected(graph, IMAGES))


def test_layers_that_rules_leave_float_read_floats():
    rules = (LayerRule("stem|head", Float()),)
    graph, trained = small_graph(Ternary(), activations=Activations(8), rules=rules)
    file = as_its_twin(graph, PICTURES)
    assert num_roundings(file) == num_on_grids(graph)
    as_trained(logits(file.data, PICTURES), trained.numpy(), 1)


def test_biases_are_those_that_were_trained():
    graph = every_layer(Uniform(bits=4), 4)
    model = onnx.load_from_string(onnx_file(graph, "onnx").data)
    held = [tensor.raw_data for tensor in model.graph.initializer]
    assert all(layer.bias_O.tobytes() in held for layer in graph.layers)

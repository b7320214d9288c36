"""Networks whose biases are whole run with integers, and give the predictions of their graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx_checks import as_its_twin, bound, close, evaluated, expected, logits
from random_graphs import QUANTIZERS, Builder, every_layer, pixels
from small_networks import images, small_graph
from whole_biases import whole

from sqtune.deploy.graph import Conv, Graph
from sqtune.deploy.onnx.compare import operators
from sqtune.deploy.onnx.model import OnnxFile, onnx_file
from sqtune.quant import Activations, Binary, Float, Ternary, Uniform

IMAGES = pixels(32)
MOST = 2
PACKED = [quantizer for quantizer in QUANTIZERS if quantizer != Float()]


def nearly(values: np.ndarray, wanted: np.ndarray, most: int = MOST) -> None:
    """Check that in a few images at most a sum at the middle of two codes fell otherwise.

    Whole sums may cancel: two logits that are both 0 are no class.
    """
    near = 1e-4 * np.abs(wanted).max()
    is_other = (np.abs(values - wanted) > near).any(axis=1)
    assert is_other.sum() <= most
    best = np.sort(wanted, axis=1)
    is_clear = best[:, -1] - best[:, -2] > near
    assert ((values.argmax(axis=1) != wanted.argmax(axis=1)) & is_clear & ~is_other).sum() == 0


def num_fused(file: OnnxFile, operator: str = "QLinearConv") -> int:
    """Return how many layers run with integers; the operator's domain hangs on the layout."""
    return sum(name.endswith(operator) for name in operators(file.data))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("quantizer", PACKED, ids=str)
def test_every_quantizer_with_inputs_on_grids(quantizer, bits):
    graph = whole(every_layer(quantizer, bits))
    file = as_its_twin(graph, IMAGES)
    assert (file.opset, file.ir, file.oldest_runtime) == (19, 9, "1.16.3")
    assert len(file.data) <= bound(graph)
    wanted = expected(graph, IMAGES)
    nearly(logits(file.data, IMAGES), wanted)
    nearly(logits(file.data, IMAGES, optimise=False), wanted)
    nearly(evaluated(file.data, IMAGES[:4]), wanted[:4])
    assert num_fused(file) == 4  # all but the two that are added
    assert num_fused(file, "QGemm") == 1


@pytest.mark.parametrize("clipping", ["lsq", "pact"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("ends", [8, 32])
def test_networks_with_trained_grids(bits, clipping, ends):
    trained, _ = small_graph(Binary(), activations=Activations(bits, clipping, ends))
    graph, pictures = whole(trained), images(16).numpy()
    file = as_its_twin(graph, pictures)
    nearly(logits(file.data, pictures), expected(graph, pictures), 4)  # 8 bits: 3 of 16
    assert num_fused(file) > 0


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("form", ["onnx", "native"])
def test_signed_grids_end_at_their_lowest_code(bits, form):
    build = Builder()
    step = 0.5 / (2 ** (bits - 1) - 1)  # images go from about -1.3 to 2
    x = build.quantize(0, bits, signed=True, step=step)
    graph = whole(build.graph(build.mean(build.conv(x, 4, 1, quantizer=Ternary()))))
    black = np.zeros_like(IMAGES[:2])
    close(logits(onnx_file(graph, form).data, black), expected(graph, black))
    close(logits(onnx_file(graph, form).data, IMAGES), expected(graph, IMAGES))


def largest_sums(quantizer: Uniform | Binary | Ternary, bits: int) -> Graph:
    """Return a graph whose inputs and levels are all at their ends."""
    build = Builder()
    x = build.quantize(0, 8, signed=True, step=1e-3)
    x = build.quantize(build.conv(x, 4, 1, quantizer=Binary()), bits, step=1e-3)
    x = build.quantize(build.conv(x, 8, quantizer=quantizer), 8)
    graph = whole(build.graph(build.linear(build.flatten(x), 6, quantizer)))
    nodes = []
    for node in graph.nodes:
        if isinstance(node, Conv) and node.weight.quantizer == quantizer:
            top = np.abs(node.weight.codes).max()
            node = replace(node, weight=replace(node.weight, codes=node.weight.codes * 0 + top))  # noqa: PLW2901
        nodes.append(node)
    return whole(replace(graph, nodes=tuple(nodes)))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("quantizer", [Ternary(), *(Uniform(bits=bits) for bits in range(3, 9))])
def test_no_sum_of_products_is_clipped(quantizer, bits):
    graph = largest_sums(quantizer, bits)
    file = as_its_twin(graph, IMAGES)
    assert num_fused(file) >= 2
    nearly(logits(file.data, IMAGES), expected(graph, IMAGES))


@pytest.mark.parametrize("quantizer", [Binary(), Ternary(), Uniform(bits=8)], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-7, 1e-5])
def test_rows_that_batch_norm_switched_off_keep_their_biases(quantizer, size):
    graph = every_layer(quantizer, 4)
    nodes = []
    for node in graph.nodes:
        if isinstance(node, Conv):
            scale_O = node.weight.scale_O.copy()
            scale_O[::3] *= np.float32(size)
            node = replace(node, weight=replace(node.weight, scale_O=scale_O))  # noqa: PLW2901
        nodes.append(node)
    graph = whole(replace(graph, nodes=tuple(nodes)))
    file = as_its_twin(graph, IMAGES)
    nearly(logits(file.data, IMAGES), expected(graph, IMAGES))
    assert num_fused(file) > 0


def test_float_weights_never_stand_between_integers():
    build = Builder()
    x = build.quantize(0, 8, signed=True)
    x = build.quantize(build.relu(build.conv(x, 8, quantizer=Float())), 4)
    y = build.conv(x, 8, quantizer=Binary())
    z = build.conv(x, 8, quantizer=Float())
    x = build.quantize(build.relu(build.combine(y, z)), 4)
    x = build.quantize(build.relu(build.conv(x, 8, quantizer=Ternary())), 4)
    graph = whole(build.graph(build.linear(build.flatten(x), 6, Ternary())))
    file = as_its_twin(graph, IMAGES)
    nearly(logits(file.data, IMAGES), expected(graph, IMAGES))
    model = onnx.load_from_string(file.data)
    assert sum(node.op_type == "Round" for node in model.graph.node) == 2
    assert num_fused(file) == 1
    floats = [layer.weight for layer in graph.layers if isinstance(layer.weight, np.ndarray)]
    held = [tensor.raw_data for tensor in model.graph.initializer]
    assert all(weight.tobytes() in held for weight in floats)


def test_grids_pass_through_what_only_moves_values():
    build = Builder()
    x = build.quantize(build.relu(build.conv(0, 8, quantizer=Float())), 4)
    y = build.pad(build.pool(x), (0, 0), (1, 0), (0, 1))
    z = build.slice(build.concat(x, x), 4, 12)
    y = build.quantize(build.relu(build.conv(y, 4, quantizer=Ternary())), 4)
    z = build.quantize(build.relu(build.conv(z, 4, 3, stride=2, quantizer=Binary())), 8)
    y = build.linear(build.flatten(y), 6, Uniform(bits=4))
    z = build.linear(build.reshape(build.transpose(z, 1, 2, 0), 64), 6, Uniform(bits=8))
    graph = whole(build.graph(build.combine(y, z)))
    file = as_its_twin(graph, IMAGES)
    nearly(logits(file.data, IMAGES), expected(graph, IMAGES))
    model = onnx.load_from_string(file.data)
    weights = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert sum(len(node.attribute) for node in weights) >= 4  # along rows: none is float


def test_grids_of_different_steps_are_not_one():
    build = Builder()
    x = build.relu(build.conv(0, 8, quantizer=Float()))
    both = build.concat(build.quantize(x, 4), build.quantize(x, 2))
    graph = whole(build.graph(build.mean(build.conv(both, 6, quantizer=Binary()))))
    file = as_its_twin(graph, IMAGES)
    close(logits(file.data, IMAGES), expected(graph, IMAGES))

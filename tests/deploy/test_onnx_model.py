"""An ONNX file of any form gives the network's logits, bit by bit those of its unpacked twin."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_checks import as_its_twin, bound, close, decoded, evaluated, expected, logits
from random_graphs import QUANTIZERS, Builder, every_layer, pixels
from small_networks import images, small_graph

from sqtune.deploy.graph import Packed
from sqtune.deploy.onnx.model import onnx_file
from sqtune.quant import Activations, Binary, Float, LayerRule, LearnedTernary, Ternary, Uniform

IMAGES = pixels(8)
MIXED = [Uniform(bits=bits) for bits in range(2, 9)] + [Binary(), Ternary(), Float()]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_every_quantizer_and_layer_packed(quantizer):
    graph = every_layer(quantizer)
    file = as_its_twin(graph, IMAGES)
    assert (file.opset, file.ir, file.oldest_runtime) == (13, 7, "1.16.3")
    assert len(file.data) <= bound(graph)
    wanted = expected(graph, IMAGES)
    close(logits(file.data, IMAGES), wanted)
    close(logits(file.data, IMAGES, optimise=False), wanted)
    close(evaluated(file.data, IMAGES[:2]), wanted[:2])


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_every_quantizer_and_layer_native(quantizer):
    graph = every_layer(quantizer)
    file = as_its_twin(graph, IMAGES, "native")
    wanted = expected(graph, IMAGES)
    close(logits(file.data, IMAGES), wanted)
    close(evaluated(file.data, IMAGES[:2]), wanted[:2])


def test_versions_of_the_native_form_are_those_that_its_types_need():
    needed = {
        Binary(): (25, 13, "1.24.4"),
        LearnedTernary(): (25, 13, "1.24.4"),
        Uniform(bits=2): (25, 13, "1.24.4"),
        Uniform(bits=3): (21, 10, "1.23.2"),
        Uniform(bits=4): (21, 10, "1.23.2"),
        Uniform(bits=5): (13, 7, "1.16.3"),
        Uniform(bits=8): (13, 7, "1.16.3"),
        Float(): (13, 7, "1.16.3"),
    }
    for quantizer, versions in needed.items():
        file = onnx_file(every_layer(quantizer), "native")
        assert (file.opset, file.ir, file.oldest_runtime) == versions
        model = onnx.load_from_string(file.data)
        assert (model.opset_import[0].version, model.ir_version) == versions[:2]


def test_trained_grids_need_no_newer_operators():
    graph, _ = small_graph(Binary(), activations=Activations(4))
    file = onnx_file(graph, "onnx")
    assert (file.opset, file.ir, file.oldest_runtime) == (13, 7, "1.16.3")
    assert b"QuantizeLinear" not in file.data


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("seed", range(4))
def test_layers_of_different_bits_in_one_file(form, seed):
    rng = np.random.default_rng(seed)
    graph = every_layer([MIXED[index] for index in rng.permutation(len(MIXED))])
    file = as_its_twin(graph, IMAGES, form)
    close(logits(file.data, IMAGES), expected(graph, IMAGES))
    num_kinds = len({place.kind for place in file.placements})
    assert form == "native" or len(file.data) <= bound(graph) + 150 * num_kinds


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("quantizer", [*QUANTIZERS, MIXED], ids=str)
def test_placements_say_where_the_levels_and_scales_are(quantizer, form, bits):
    graph = every_layer(quantizer, bits)
    found = decoded(onnx_file(graph, form))
    packed = [layer.weight for layer in graph.layers if isinstance(layer.weight, Packed)]
    assert list(found) == [weight.source for weight in packed]
    for weight in packed:
        levels, scales = found[weight.source]
        assert np.array_equal(levels, weight.levels)
        assert np.array_equal(scales, weight.level_scale_O)


def test_a_file_is_the_same_whenever_it_is_written():
    assert onnx_file(every_layer(MIXED), "onnx") == onnx_file(every_layer(MIXED), "onnx")


def test_a_file_holds_no_more_than_it_needs():
    model = onnx.load_from_string(onnx_file(every_layer(Ternary()), "onnx").data)
    assert not model.producer_name
    assert not model.graph.value_info
    assert not any(node.name or node.doc_string for node in model.graph.node)
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    (codes,) = (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.UINT8)
    sizes = [layer.weight.codes.size for layer in every_layer(Ternary()).layers]
    assert len(codes.raw_data) == -(-sum(sizes) // 5)


@pytest.mark.parametrize("quantizer", [Float(), Binary(), Ternary(), Uniform(bits=4)], ids=str)
def test_a_network_of_three_layers_has_its_bytes_too(quantizer):
    build = Builder()
    x = build.relu(build.conv(0, 8, quantizer=quantizer))
    x = build.mean(build.relu(build.conv(x, 8, quantizer=quantizer)))
    graph = build.graph(build.linear(x, 5, quantizer))
    assert len(as_its_twin(graph, IMAGES).data) <= bound(graph) + 150


def test_any_number_of_images():
    file = onnx_file(every_layer(Binary()), "onnx")
    alone = np.concatenate([logits(file.data, IMAGES[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(logits(file.data, IMAGES), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["onnx", "native"])
def test_trained_networks_with_rules(form):
    rules = (LayerRule("stem|head", Uniform(bits=8)), LayerRule("group1", Uniform(bits=3)))
    graph, trained = small_graph(Binary(), rules=rules)
    file = as_its_twin(graph, images(16).numpy(), form)
    close(logits(file.data, images(16).numpy()), trained.numpy())


def test_trained_networks_with_activations():
    graph, trained = small_graph(Ternary(), activations=Activations(4))
    file = as_its_twin(graph, images(16).numpy())
    found = logits(file.data, images(16).numpy())
    assert (found.argmax(axis=1) == trained.numpy().argmax(axis=1)).all()

"""Every kind of node as ONNX operators, against torch and onnx's own evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_checks import as_its_twin, close, evaluated, expected, logits
from random_graphs import Builder, pixels

from sqtune.deploy.graph import Graph, Pointwise
from sqtune.deploy.onnx.compare import differences, operators
from sqtune.deploy.onnx.model import onnx_file
from sqtune.quant import Binary, Float, Ternary, Uniform

FUNCTIONS = ["relu", "clip", "sigmoid", "hardsigmoid", "hardswish", "silu", "gelu", "tanh"]


def agrees(graph: Graph, *, evaluate: bool = True) -> None:
    images = pixels(4, graph.image_shape)
    wanted = expected(graph, images)
    as_its_twin(graph, images)
    for form in ("onnx", "native"):  # newer operators of the latter may add in another order
        file = onnx_file(graph, form)
        close(logits(file.data, images), wanted)
        close(logits(file.data, images, optimise=False), wanted)
        if evaluate:
            close(evaluated(file.data, images), wanted)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function):
    build = Builder()
    x = build.same(Pointwise, build.conv(0, 4), function=function, low=-0.5, top=1.5)
    agrees(build.graph(build.linear(build.flatten(x), 5)))


@pytest.mark.parametrize("shape", [(3, 64), (3, 8, 8), (3, 4, 4, 4)])
@pytest.mark.parametrize("keep", [False, True])
def test_convolutions_of_one_to_three_dimensions(shape, keep):
    build = Builder()
    x = build.reshape(0, *shape)
    x = build.relu(build.conv(x, 4, stride=2, quantizer=Ternary()))
    x = build.conv(x, 6, 2, dilation=2, groups=2, padding=(1, 2), quantizer=Uniform(bits=3))
    x = build.mean(build.affine(x), keep=keep)
    if keep:
        x = build.flatten(x)
    agrees(build.graph(build.linear(x, 5, Uniform(bits=4))))


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(
    ("window", "stride", "around"),
    [(2, 2, (0, 0)), (3, 2, (1, 1)), (3, 1, (0, 1)), (3, 2, (0, 2)), (2, 1, (1, 0))],
)
def test_pooling_counts_no_padding(kind, window, stride, around):
    build = Builder((3, 9, 9))
    x = build.pool(build.conv(0, 4), kind, window, stride, around)
    # onnx's evaluator pads a maximum in steps of one on the wrong side
    evaluate = kind == "average" or stride > 1
    agrees(build.graph(build.linear(build.flatten(x), 5)), evaluate=evaluate)


def test_what_moves_values():
    build = Builder()
    x = build.relu(build.conv(0, 8))
    x = build.concat(build.slice(x, 2, 6), build.slice(x, 0, 2))
    x = build.pad(build.slice(x, 1, 7, axis=2), (0, 1), (2, 0), (1, 1))
    x = build.transpose(build.reshape(x, 7, 5, 2, 8), 2, 0, 3, 1)
    agrees(build.graph(build.linear(build.flatten(x), 5)))


def test_products_and_sums_of_parts():
    build = Builder()
    x = build.relu(build.conv(0, 6))
    gate = build.same(Pointwise, build.conv(build.mean(x, keep=True), 6, 1), function="sigmoid")
    x = build.combine(build.combine(x, gate, "mul"), x)
    agrees(build.graph(build.linear(build.mean(x), 5)))


@pytest.mark.parametrize("num_dims", [1, 2, 3])
def test_layer_norms_and_linear_layers_over_the_last_of_many_dimensions(num_dims):
    build = Builder()
    x = build.transpose(build.conv(0, 6), 1, 2, 0)
    x = build.linear(build.layer_norm(x, num_dims), 12, Ternary())
    x = build.linear(build.same(Pointwise, x, function="gelu"), 6, Uniform(bits=3))
    x = build.mean(build.transpose(x, 2, 0, 1))
    agrees(build.graph(build.linear(x, 5, Float())))


@pytest.mark.parametrize("quantizer", [Binary(), Uniform(bits=8)], ids=str)
def test_linear_layers_over_the_last_of_many_dimensions_on_grids(quantizer):
    build = Builder()
    x = build.transpose(build.conv(0, 6), 1, 2, 0)
    x = build.linear(build.quantize(x, 4, signed=True), 12, quantizer)
    x = build.mean(build.transpose(x, 2, 0, 1))
    graph = build.graph(build.linear(x, 5, Float()))
    images = pixels(4)
    close(logits(as_its_twin(graph, images).data, images), expected(graph, images), 1e-4)


def test_a_layer_without_biases_has_none_in_the_file():
    build = Builder()
    build.bias = lambda rows: np.zeros(rows, np.float32)
    graph = build.graph(build.linear(build.mean(build.conv(0, 4)), 5))
    agrees(graph)


def variant(**more: object) -> bytes:
    build = Builder()
    x = build.relu(build.conv(0, 4, **{"quantizer": Ternary(), **more}))
    return onnx_file(build.graph(build.linear(build.mean(x), 5)), "onnx").data


def test_differences_are_named():
    assert differences(variant(), variant()) == []
    (found,) = differences(variant(), variant(padding=(1, 1), quantizer=Binary()))
    assert "input 1 of" in found
    assert "a constant of shape" in found
    assert any("attributes of" in what for what in differences(variant(), variant(stride=2)))
    deeper = Builder()
    x = deeper.relu(deeper.conv(deeper.conv(0, 4), 4))
    other = onnx_file(deeper.graph(deeper.linear(deeper.mean(x), 5)), "onnx").data
    assert any("steps" in what for what in differences(variant(), other))


def test_wiring_is_compared():
    def crossed(first: int, second: int) -> bytes:
        build = Builder()
        x = build.conv(0, 4)
        ends = [build.same(Pointwise, x, function=name) for name in ("sigmoid", "tanh")]
        both = build.concat(ends[first], ends[second])
        return onnx_file(build.graph(build.linear(build.mean(both), 5)), "onnx").data

    assert differences(crossed(0, 1), crossed(0, 1)) == []
    assert differences(crossed(0, 1), crossed(1, 0))


def test_all_unpacking_is_done_when_the_file_is_loaded():
    left = {name.rpartition(":")[2] for name in operators(variant())}
    assert left.isdisjoint({"Range", "Gather", "Split", "Mod", "Div", "MatMulInteger"})
    assert [name.rpartition(":")[2] for name in operators(variant())].count("Cast") == 1

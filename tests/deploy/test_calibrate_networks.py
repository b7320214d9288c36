"""Laws of integer activations that hold for networks of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from calibration_laws import grids
from small_networks import images, small_graph

from sqtune.deploy.graph import (
    Combine,
    Conv,
    Linear,
    Mean,
    Pointwise,
    Pool,
    Quantize,
)
from sqtune.deploy.integers.calibrate import calibrate, calibrated
from sqtune.deploy.integers.regions import moves
from sqtune.deploy.run import run, values
from sqtune.networks import ResNet, Torchvision, Vgg9
from sqtune.quant import Ternary

KINDS = {
    "resnet20": (ResNet("resnet20", 4), 12),
    "odd sizes": (ResNet("resnet8", 4), 13),
    "vgg9": (Vgg9(width=4), 13),
    "mobilenet_v2": (Torchvision("mobilenet_v2"), 33),
    "mobilenet_v3_small": (Torchvision("mobilenet_v3_small"), 33),
    "shufflenet": (Torchvision("shufflenet_v2_x0_5"), 33),
    "densenet": (Torchvision("densenet121"), 33),
    "googlenet": (Torchvision("googlenet"), 33),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    network, side = KINDS[request.param]
    shape = (3, side, side)
    graph, _ = small_graph(Ternary(), network, shape=shape)
    pixels = images(6, shape)
    return graph, calibrate(graph, pixels), pixels


def test_all_layers_read_grids_and_give_what_goes_onto_one(kind):
    _, graph, _ = kind
    on_grid, readers = grids(graph), {}
    for node in graph.nodes:
        for number in node.inputs:
            readers.setdefault(number, []).append(node)
    for layer in graph.layers:
        assert layer.inputs[0] in on_grid, layer.name
        if layer.output != graph.output:
            (reader,) = readers[layer.output]
            assert isinstance(reader, Quantize), layer.name


def test_nothing_is_rounded_twice(kind):
    _, graph, _ = kind
    on_grid = grids(graph)
    for node in graph.nodes:
        if isinstance(node, Quantize):
            assert node.inputs[0] not in on_grid
        elif moves(node):
            given = {on_grid.get(number) for number in node.inputs}
            assert len(given) == 1, f"{node.name} joins values of different grids"


def test_sums_and_averages_of_values_on_grids_go_onto_one(kind):
    _, graph, _ = kind
    on_grid = grids(graph)
    rounded = {node.inputs[0] for node in graph.nodes if isinstance(node, Quantize)}
    for node in graph.nodes:
        averages = isinstance(node, Mean) or (isinstance(node, Pool) and node.kind == "average")
        if isinstance(node, Combine) or averages:
            if all(number in on_grid for number in node.inputs):
                assert node.output in rounded
            assert not (isinstance(node, Mean) and not node.keep)


def test_grids_cover_what_they_are_for(kind):
    _, graph, pixels = kind
    rounded = {node.inputs[0]: node.grid for node in graph.nodes if isinstance(node, Quantize)}
    for number, value in values(graph, pixels):
        if number in rounded:
            grid = rounded[number]
            assert (grid.bits, grid.low, grid.top) in ((8, 0, 255), (8, -128, 127))
            seen = value.clamp(min=0) if grid.low == 0 else value  # a ReLU that the grid does
            inside = seen.abs() <= grid.step * (grid.top + 0.5)
            assert inside.float().mean() > 0.9
            assert not seen.any() or seen.abs().max() < 50 * grid.step * grid.top


def test_grids_are_unsigned_only_behind_what_cannot_be_negative(kind):
    before, graph, _ = kind
    behind = {}
    for node in before.nodes:
        for number in node.inputs:
            behind.setdefault(number, []).append(node)
    weights = {id(layer.weight): layer for layer in before.layers}
    num_unsigned = 0
    for node in graph.nodes:
        if not isinstance(node, Quantize) or node.grid.low != 0:
            continue
        num_unsigned += 1
        maker = graph.made_by[node.inputs[0]]
        if isinstance(maker, Conv | Linear):
            (reader,) = behind[weights[id(maker.weight)].output]
            assert isinstance(reader, Pointwise)
            assert reader.function in ("relu", "clip")
            assert reader.low >= 0
    assert num_unsigned > 0


def test_the_logits_stay_float_and_near(kind):
    before, graph, pixels = kind
    assert not isinstance(graph.made_by[graph.output], Quantize)
    assert graph.output not in grids(graph)
    expected, found = run(before, pixels), run(graph, pixels)
    assert (found - expected).square().mean() < 0.02 * expected.std() ** 2


def test_weights_stay_and_batches_of_any_size_give_the_same_grids(kind):
    before, graph, pixels = kind
    for one, other in zip(before.layers, graph.layers, strict=True):
        assert one.weight is other.weight
        assert one.name == other.name
    if len(graph.nodes) > 60:  # the small ones will do
        return
    again = calibrated(before, pixels, batch_size=3).graph
    assert len(again.nodes) == len(graph.nodes)
    for one, other in zip(graph.nodes, again.nodes, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Quantize):
            assert other.grid == replace(one.grid, step=other.grid.step)
            assert other.grid.step == pytest.approx(one.grid.step, rel=1e-5)

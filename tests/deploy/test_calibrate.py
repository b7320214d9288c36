"""Integer activations chosen from images: laws that hold for every network and number of bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from calibration_laws import grids
from small_networks import images, small_graph, trained, with_statistics
from torch import nn

from sqtune.deploy.graph import (
    IMAGE,
    Combine,
    Linear,
    Mean,
    Packed,
    Pointwise,
    Quantize,
)
from sqtune.deploy.integers.calibrate import calibrate, calibrated
from sqtune.deploy.lower import lower
from sqtune.deploy.run import run
from sqtune.errors import ExportError
from sqtune.quant import Activations, Binary, Float, LayerRule, Ternary, Uniform


def test_the_same_images_give_the_same_graph():
    graph, _ = small_graph(Binary())
    one, other = (calibrate(graph, images(16), 4) for _ in range(2))
    steps = [[node.grid for node in g.nodes if isinstance(node, Quantize)] for g in (one, other)]
    assert steps[0] == steps[1]
    assert torch.equal(run(one, images(16)), run(other, images(16)))


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_for_what_layers_read_but_the_first_and_the_last(bits):
    graph, _ = small_graph(Ternary())
    few = calibrate(graph, images(32), bits)
    on_grid = grids(few)
    read = [on_grid[layer.inputs[0]] for layer in few.layers]
    assert [grid.bits for grid in read] == [8, *[bits] * (len(read) - 2), 8]
    assert {(grid.low, grid.top) for grid in read[1:-1]} == {(0, 2**bits - 1)}
    for node in few.nodes:
        if isinstance(node, Combine | Mean):
            assert all(
                on_grid[number].bits == 8 or few.num_readers[number] > 1 for number in node.inputs
            )
    wanted = run(graph, images(32))
    errors = [
        (run(calibrate(graph, images(32), each), images(32)) - wanted).square().mean()
        for each in (bits, 8)
    ]
    assert errors[1] < errors[0] / 4


def test_the_method_with_the_smallest_error_is_kept():
    graph, _ = small_graph(Uniform(bits=4))
    result = calibrated(graph, images(32), 2)
    assert result.errors[result.method] == min(result.errors.values())
    assert len(set(result.errors.values())) > 3
    error = (run(result.graph, images(32)) - run(graph, images(32))).square().mean()
    assert float(error) == pytest.approx(result.errors[result.method], rel=1e-4)


def test_biases_are_whole_numbers_of_the_unit_of_sums():
    graph = calibrate(small_graph(Ternary())[0], images(16))
    on_grid = grids(graph)
    for layer in graph.layers:
        unit_O = layer.weight.level_scale_O.astype(np.float64) * on_grid[layer.inputs[0]].step
        whole_O = layer.bias_O / unit_O
        assert np.abs(whole_O - np.rint(whole_O)).max() < 1e-2


@pytest.mark.parametrize(("bits", "ends"), [(8, (129, 64)), (7, (255, 127)), (4, (255, 127))])
def test_eight_bit_weights_never_overflow_pairs_of_products_in_16_bits(bits, ends):
    graph = calibrate(small_graph(Uniform(bits=bits))[0], images(16))
    on_grid = grids(graph)
    for layer in graph.layers:
        grid = on_grid[layer.inputs[0]]
        assert grid.top == ends[grid.low < 0]
        largest = int(np.abs(layer.weight.levels.astype(int)).max())
        assert 2 * largest * (grid.top - grid.low) < 2**15


def test_layers_with_float_weights_read_what_was_never_rounded():
    rules = (LayerRule("stem|group2[.]0[.]conv2|head", Float()),)
    before, _ = small_graph(Binary(), rules=rules)
    graph = calibrate(before, images(16))
    on_grid = grids(graph)
    for layer in graph.layers:
        assert (layer.inputs[0] in on_grid) == isinstance(layer.weight, Packed)
        if not isinstance(layer.weight, Packed) and layer.inputs[0] != IMAGE:
            assert not isinstance(graph.made_by[layer.inputs[0]], Quantize)
    difference = run(graph, images(16)) - run(before, images(16))
    assert difference.abs().max() < 0.1 * run(before, images(16)).std()


class Joined(nn.Module):
    """A ReLU and a convolution side by side, a ReLU that is not alone, and a clip that is."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3)
        self.two = nn.Conv2d(3, 4, 3)
        self.three = nn.Conv2d(8, 4, 3)
        self.four = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.cat([self.one(x).relu(), self.two(x)], dim=1)
        x = self.three(nn.functional.max_pool2d(x, 2))
        x = nn.functional.relu6(self.four(x + x.relu()))
        return self.head(x.mean(dim=(2, 3)))


def test_relus_on_signed_grids_work_on_codes_and_clips_end_their_grids():
    torch.manual_seed(0)
    before = lower(trained(with_statistics(Joined()), Ternary())[0])
    graph = calibrate(before, images(16))
    on_grid = grids(graph)
    relus = [node for node in graph.nodes if isinstance(node, Pointwise)]
    assert [node.function for node in relus] == ["relu", "relu"]
    for node in relus:
        assert on_grid[node.inputs[0]] == on_grid[node.output]
        assert on_grid[node.output].low == -128
        assert isinstance(graph.made_by[node.inputs[0]], Quantize)
    rounded = {node.inputs[0]: node for node in graph.nodes if isinstance(node, Quantize)}
    assert not rounded.keys() & {node.output for node in relus}
    (four,) = (layer for layer in graph.layers if layer.name == "four")
    clipped = rounded[four.output]
    assert clipped.grid.low == 0
    assert np.float32(clipped.grid.step) * np.float32(255) <= 6
    error = (run(graph, images(16)) - run(before, images(16))).square().mean()
    assert error < 1e-3 * run(before, images(16)).var()


class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))


def test_rows_that_batch_norm_has_switched_off_keep_their_bias():
    torch.manual_seed(0)
    model = with_statistics(Dead())
    with torch.no_grad():
        model.norm.weight[:2] = torch.tensor([0.0, 1e-20])
        model.norm.bias[:2] = torch.tensor([0.7, 0.9])
    before = lower(trained(model, Binary())[0])
    graph = calibrate(before, images(16))
    assert np.array_equal(graph.layers[0].bias_O[:2], before.layers[0].bias_O[:2])
    assert (run(graph, images(16)) - run(before, images(16))).abs().max() < 0.02


def test_what_is_refused():
    graph, _ = small_graph(Binary(), activations=Activations(4, "lsq"))
    with pytest.raises(ExportError, match="trained with low-bit activations and is exported as"):
        calibrate(graph, images(4))
    graph, _ = small_graph(Float())
    with pytest.raises(ExportError, match="all weights of this network are float"):
        calibrate(graph, images(4))
    graph, _ = small_graph(Binary())
    with pytest.raises(ExportError, match="8, 4 or 2 bits, not 3"):
        calibrate(graph, images(4), 3)
    with pytest.raises(ExportError, match="at least one image of"):
        calibrate(graph, images(0))
    with pytest.raises(ExportError, match="at least one image of"):
        calibrate(graph, images(4).float())
    layer = graph.layers[3]
    broken = replace(layer, bias_O=np.full_like(layer.bias_O, np.inf))
    nodes = tuple(broken if node is layer else node for node in graph.nodes)
    with pytest.raises(ExportError, match=f"{layer.name}: .* not finite"):
        calibrate(replace(graph, nodes=nodes), images(4))
    assert isinstance(graph.layers[-1], Linear)

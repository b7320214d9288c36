"""The C form on an emulated Cortex-M4: the same logits, and the figures that were predicted."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from c_models import errors
from small_networks import images, small_graph

from sqtune.deploy.c import target
from sqtune.deploy.c.source import c_source
from sqtune.deploy.c.target import FLAGS, INSTRUCTIONS_PER_TICK, measure_on_cortex_m
from sqtune.deploy.graph import Graph, Mean
from sqtune.deploy.run import run
from sqtune.errors import ExportError
from sqtune.quant import Activations, Binary, Float, Ternary, Uniform

MISSING = [
    tool for tool in (target.COMPILER, target.SIZE, target.EMULATOR) if shutil.which(tool) is None
]
on_target = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@on_target
@pytest.mark.parametrize(
    ("quantizer", "activations"),
    [
        (Float(), None),
        (Binary(), None),
        (Ternary(), Activations(8)),
        (Uniform(bits=4), Activations(4)),
        (Uniform(bits=3), Activations(2)),
    ],
    ids=str,
)
def test_the_same_logits_and_the_figures_that_were_predicted(quantizer, activations):
    graph, _ = small_graph(quantizer, activations=activations)
    source, pixels = c_source(graph), images(4)
    figures = measure_on_cortex_m(source, pixels.numpy())
    expected = run(graph, pixels).numpy()
    found = errors(figures.logits, expected)
    assert found.max() < 1e-5 if activations is None else np.median(found) < 1e-6
    assert figures.ram_bytes == source.ram_bytes
    # constant data are aligned, and numbers of a convolution that is called once go into the code
    assert abs(figures.data_bytes - source.flash_bytes) < 22 + 4 * 40
    assert 1000 < figures.code_bytes < 10_000
    assert 100 < figures.stack_bytes < 1000
    # 157,984 multiply-adds, a few instructions each
    assert all(3 < count / 157_984 < 16 for count in figures.instructions)
    assert len(figures.instructions) == 4


@on_target
def test_whole_numbers_spare_a_core_without_floating_point_most_of_its_work():
    counts = []
    for activations in (None, Activations(8)):
        graph, _ = small_graph(Binary(), activations=activations)
        pixels = images(1)
        figures = measure_on_cortex_m(c_source(graph), pixels.numpy(), floating_point=False)
        assert errors(figures.logits, run(graph, pixels).numpy()).max() < 1e-5
        counts.append(figures.instructions[0])
    assert counts[0] > 3 * counts[1]


@on_target
def test_instructions_are_counted_to_a_tick_and_a_name_is_free():
    graph, _ = small_graph(Ternary())
    pixels = np.zeros((2, 3, 12, 12), np.uint8)
    figures = measure_on_cortex_m(c_source(graph, "digits"), pixels, flags=(*FLAGS[:1], "-Os"))
    one, other = figures.instructions
    assert abs(one - other) <= INSTRUCTIONS_PER_TICK
    assert figures.compiler.endswith("-Os")


@on_target
def test_what_the_board_has_no_room_for_is_an_error():
    shape = (1, 1100, 1000)  # 4.4 MB as floats
    node = Mean(name="mean", inputs=(0,), output=1, keep=False)
    graph = Graph((node,), (shape, (1,)), 1, ("one",), (0.5,), (0.5,))
    with pytest.raises(ExportError, match=r"arm-none-eabi-gcc failed: .*overflowed"):
        measure_on_cortex_m(c_source(graph), np.zeros((1, *shape), np.uint8)[:0])


def test_without_the_tools_there_are_no_figures(monkeypatch):
    graph, _ = small_graph(Binary())
    monkeypatch.setenv("PATH", "")
    assert measure_on_cortex_m(c_source(graph), images(1).numpy()) is None

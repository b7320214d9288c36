"""Random graphs of every node kind: the C form gives their logits, and values never overlap."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from c_models import errors, library, logits
from random_c_graphs import RandomGraph
from small_networks import images

from sqtune.deploy.c.plan import plan
from sqtune.deploy.c.source import c_source
from sqtune.deploy.graph import Quantize
from sqtune.deploy.run import run

SEEDS = [*range(60), 1081]  # the last one has rounding in front of a concatenation


@pytest.fixture(scope="module")
def graphs():
    made = [RandomGraph(seed) for seed in SEEDS]
    # the reference does not know nodes that nothing reads: lowering drops them
    return [_without_the_unread(each.graph()) for each in made]


def _without_the_unread(graph):
    needed, kept = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.output in needed:
            kept.append(node)
            needed |= set(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


@pytest.fixture(scope="module")
def models(graphs, tmp_path_factory):
    sources = [c_source(graph, f"net{index}") for index, graph in enumerate(graphs)]
    return sources, library(sources, tmp_path_factory.mktemp("c"), "-O0")


def test_every_kind_is_there(graphs):
    kinds = Counter(type(node).__name__ for graph in graphs for node in graph.nodes)
    assert len(kinds) == 13
    assert min(kinds.values()) >= 5, kinds


@pytest.mark.parametrize("index", range(len(SEEDS)))
def test_the_same_logits(graphs, models, index):
    graph, (sources, compiled) = graphs[index], models
    pixels = images(8, graph.image_shape)
    expected = run(graph, pixels).numpy()
    assert np.isfinite(expected).all()
    found = errors(logits(compiled, sources[index], pixels), expected)
    if any(isinstance(node, Quantize) for node in graph.nodes):
        assert np.median(found) < 1e-5  # a sum that is rounded otherwise may move a code
    else:
        assert found.max() < 1e-4  # products of many values


def test_values_that_are_alive_at_the_same_time_lie_apart(graphs):
    for graph in graphs:
        planned = plan(graph)
        last = {n: index for index, step in enumerate(planned.steps) for n in step.reads}
        last[planned.output] = len(planned.steps)
        spans = {}
        for index, step in enumerate(planned.steps):
            for value in step.writes:
                begin = planned.arena.offsets[value]
                size = -(-planned.numbers[value] * planned.arena.bits[value] // 8)
                # a value that takes another's place begins when that one ends
                spans[value] = (index, last[value], begin, begin + size)
                assert begin % 4 == 0
                assert begin + size <= planned.arena.size_bytes
        for one, other in combinations(spans.values(), 2):
            together = one[0] < other[1] and other[0] < one[1]
            assert not together or one[3] <= other[2] or other[3] <= one[2]

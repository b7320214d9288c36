"""200 random networks: each file gives the very bits that its unpacked twin gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_checks import close, expected, logits
from random_graphs import QUANTIZERS, Builder, pixels

from sqtune.deploy.graph import Graph, Pointwise, Quantize
from sqtune.deploy.onnx.model import onnx_file

FUNCTIONS = ["relu", "clip", "sigmoid", "hardsigmoid", "hardswish", "silu", "gelu", "tanh"]
NUM_NETWORKS, NUM_PARTS = 200, 10


def random_graph(seed: int) -> Graph:
    """Return a network of random depth, widths, kernels, branches, quantizers and grids."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(6, 11))
    build = Builder((int(rng.choice([1, 3])), side, side), seed)
    with_grids = rng.random() < 0.4

    def conv(x: int, rows: int | None = None) -> int:
        channels = build.shapes[x][0]
        groups = int(rng.choice([n for n in (1, 1, 2, 3, channels) if channels % n == 0]))
        rows = groups * int(rng.integers(1, 5)) if rows is None else rows
        groups = groups if rows % groups == 0 else 1
        if with_grids and rng.random() < 0.7:
            x = build.quantize(x, int(rng.choice([2, 4, 8])), signed=rng.random() < 0.3)
        kernel = int(rng.choice([1, 2, 3]))
        small = min(build.shapes[x][1:]) < 5
        return build.conv(
            x,
            rows,
            kernel,
            stride=1 if small else int(rng.integers(1, 3)),
            groups=groups,
            dilation=1 if small else int(rng.integers(1, 3)),
            padding=(int(rng.integers(1, 2)), int(rng.integers(1, 3))),
            quantizer=QUANTIZERS[rng.integers(len(QUANTIZERS))],
        )

    def function(x: int) -> int:
        return build.same(Pointwise, x, function=str(rng.choice(FUNCTIONS)), low=-0.5, top=1.0)

    x = function(conv(0))
    for _ in range(int(rng.integers(1, 5))):
        match rng.integers(8):
            case 0:
                x = build.combine(x, build.same(Pointwise, x, function="sigmoid"), "mul")
            case 1:
                x = build.concat(x, function(x))
            case 2:
                x = build.affine(x)
            case 3 if min(build.shapes[x][1:]) > 3:
                x = build.pool(x, str(rng.choice(["max", "average"])), 3, 2, (1, 0))
            case 4:
                x = build.combine(build.relu(x), function(x))
            case 5:
                gate = function(conv(build.mean(x, keep=True), build.shapes[x][0]))
                gate = build.mean(gate, keep=True)
                x = build.combine(x, gate, "mul")
            case _:
                x = function(conv(x))
    x = build.mean(x) if rng.random() < 0.5 else build.flatten(x)
    if with_grids:
        x = build.quantize(x, 8, signed=True)
    return build.graph(build.linear(x, 5, QUANTIZERS[rng.integers(len(QUANTIZERS))]))


@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_random_networks(part):
    for seed in range(part, NUM_NETWORKS, NUM_PARTS):
        graph = random_graph(seed)
        images = pixels(3, graph.image_shape, seed)
        packed, plain = (logits(onnx_file(graph, form).data, images) for form in ("onnx", "float"))
        assert np.array_equal(packed, plain), seed
        if not any(isinstance(node, Quantize) for node in graph.nodes):
            close(packed, expected(graph, images), 1e-4)

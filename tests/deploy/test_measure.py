"""Sizes by hand; time and memory where the difference is too large to be chance."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from rich.console import Console
from small_networks import images, small_graph

from sqtune.deploy.c.source import c_source
from sqtune.deploy.forms import Written
from sqtune.deploy.manifest import layer_table
from sqtune.deploy.measures.latency import LEAST_ROUNDS, latency
from sqtune.deploy.measures.measure import measure, sizes, without_grids
from sqtune.deploy.measures.report import layers_table, size_table
from sqtune.deploy.measures.run_memory import memory_at_run_time
from sqtune.deploy.measures.spread import Spread
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.run import run
from sqtune.networks import ResNet
from sqtune.quant import Activations, Binary, Float, LayerRule, Ternary, Uniform

# resnet8 of width 2 on one channel, 3 classes: 1354 weights in 45 rows (test_footprint_size.py)
BY_HAND = {Binary(): 171, Ternary(): 276, Uniform(bits=3): 513, Uniform(bits=4): 677}
TINY = {"network": ResNet("resnet8", 2), "shape": (1, 12, 12), "num_classes": 3}


def onnx(quantizer, form="onnx", **settings):
    return onnx_file(small_graph(quantizer, **settings)[0], form).data


def text(table) -> str:
    console = Console(width=160, markup=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.mark.parametrize("quantizer", BY_HAND, ids=str)
def test_sizes_by_hand(quantizer):
    graph, _ = small_graph(quantizer, **TINY)
    packed, float32 = onnx_file(graph, "onnx").data, onnx_file(graph, "float").data
    found = sizes(packed, float32, layer_table(graph, ()))
    assert found.weights == 1354
    assert (found.payload_bytes, found.scale_bytes, found.bias_bytes) == (
        BY_HAND[quantizer],
        180,
        180,
    )
    assert found.weight_bits == 8 * BY_HAND[quantizer] / 1354
    assert (found.bytes, found.float32_bytes) == (len(packed), len(float32))
    assert found.other_bytes == len(packed) - BY_HAND[quantizer] - 360
    assert found.file_bits == 8 * len(packed) / 1354
    assert found.gzip_bytes == len(gzip.compress(packed, 9)) < len(packed)
    assert found.float32_gzip_bytes == len(gzip.compress(float32, 9)) < len(float32)


def test_weights_that_stay_float_count_as_they_are():
    graph, _ = small_graph(Binary(), rules=(LayerRule("head", Float()),), **TINY)
    found = sizes(b"12345678", b"1234", layer_table(graph, ()), delivered=7000)
    assert found.payload_bytes == 171 - 3 + 24 * 4
    assert found.scale_bytes == 180 - 12
    assert found.bytes == 7000
    assert sizes(None, b"1234", layer_table(graph, ()), delivered=7000).gzip_bytes is None


def test_spread_of_a_single_value():
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


def test_a_larger_network_takes_longer_and_the_same_file_as_long():
    small = onnx(Binary(), network=ResNet("resnet8", 4), shape=(3, 16, 16))
    large = onnx(Binary(), network=ResNet("resnet20", 16), shape=(3, 16, 16))
    pixels = images(2, (3, 16, 16)).numpy()
    found = latency({"large": large, "small": small}, pixels, base="small", rounds=20)
    assert (found.batch, found.rounds, list(found.times)) == (2, 20, ["large", "small", "control"])
    assert found.times["small"].ratio is None
    assert found.times["large"].ratio.median > 3  # 15 times the multiply-adds
    assert 0.5 < found.times["control"].ratio.median < 2  # 1.00 on an idle core
    assert found.times["large"].load_ratio.median > 1
    assert found.times["large"].run_ms.median > found.times["small"].run_ms.median
    json.dumps(found.as_data(), allow_nan=False)


def test_timing_ends_with_its_time():
    data, pixels = onnx(Binary()), images(1).numpy()
    assert latency({"one": data}, pixels, base="one", seconds=0).rounds == LEAST_ROUNDS


def test_memory_is_that_of_a_fresh_interpreter_and_grows_with_the_weights():
    small = memory_at_run_time(onnx(Binary()), (3, 12, 12))
    large = memory_at_run_time(onnx(Binary(), network=ResNet("resnet8", 192)), (3, 12, 12))
    weights = 4 * 192**2 * 9 * (2 + 2 + 4 + 8 + 16)  # float32 once they are unpacked
    assert 0.95 * weights < large.in_use - small.in_use < 1.3 * weights
    assert large.in_use <= large.ran <= large.peak
    assert large.loaded <= large.peak
    assert small.peak < 100e6  # torch alone would take twice as much


def test_the_fresh_interpreter_needs_numpy_and_onnx_runtime_alone(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx(Binary()))
    code = (
        "import sys; from sqtune.deploy.measures.run_memory import main; "
        f"main([{str(file)!r}, '3', '12', '12']); print(*sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout
    first, modules = answer.splitlines()
    assert set(json.loads(first)) == {"loaded", "ran", "in_use", "peak"}
    assert {"onnxruntime", "numpy"} <= set(modules.split())
    assert not {"torch", "onnx", "pydantic", "rich", "mlflow"} & set(modules.split())


def test_memory_of_what_no_interpreter_loads_is_unknown():
    assert memory_at_run_time(b"no model", (3, 12, 12)) is None


def test_the_float32_twin_of_integer_activations_rounds_none():
    graph, _ = small_graph(Ternary(), activations=Activations(bits=4))
    plain, _ = small_graph(Ternary())
    twin, pixels = without_grids(graph), images(8)
    assert torch.equal(run(twin, pixels), run(plain, pixels))
    assert not torch.equal(run(graph, pixels), run(plain, pixels))
    assert onnx_file(twin, "float").data.count(b"QuantizeLinear") == 0


def test_an_export_is_measured_and_shown():
    graph, _ = small_graph(Binary(), **TINY)
    file = onnx_file(graph, "onnx")
    placements = tuple(asdict(placement) for placement in file.placements)
    written = Written({"model.onnx": file.data}, len(file.data), placements)
    size = measure(written, graph, "onnx", rounds=5)
    assert size["float32_bytes"] == len(onnx_file(graph, "float").data)
    assert size["latency"]["times"]["this file"]["ratio"]["median"] > 0
    assert size["memory"]["float32"]["peak"] > 0
    manifest = {"size": size, "layers": layer_table(graph, placements)}
    manifest = json.loads(json.dumps(manifest, allow_nan=False))
    shown = text(size_table(manifest))
    for part in (f"{len(file.data):,}", f"{size['float32_bytes']:,}", "MiB", "ms an image"):
        assert part in shown
    rows = text(layers_table(manifest)).splitlines()
    assert len([row for row in rows if " binary " in row]) == 10
    [sums] = [row.split() for row in rows if "all layers" in row]
    assert sums == ["all", "layers", "1,354", "171", "180", "180"]


@pytest.mark.parametrize("form", ["c", "torch"])
def test_forms_that_onnx_runtime_does_not_run_have_sizes_alone(form):
    graph, _ = small_graph(Binary(), **TINY)
    source = c_source(graph) if form == "c" else None
    written = Written({"model": bytes(500)}, 700, c_source=source)
    size = measure(written, graph, form)
    assert (size["bytes"], size["latency"], size["memory"]) == (700, None, None)
    assert (size["gzip_bytes"] is None) == (form == "c")
    shown = text(size_table({"size": size}))
    assert ("RAM" in shown) == (form == "c")
    assert "ms an image" not in shown
    assert np.isclose(size["weight_bits"], 8 * 171 / 1354)

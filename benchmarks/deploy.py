"""How small exported files are, and what they cost where they run, beside the same in float32.

    python benchmarks/deploy.py
    python benchmarks/deploy.py --networks resnet20 --rounds 10 --no-save

ResNet-20 on 32 x 32 pixels and ResNet-18 on 224 x 224, with 1, 2, 3 and 4 bits and ternary, float
activations; binary and ternary also with activations of 8 bits. The weights are random, batch norm
has random statistics: neither size nor time depends on what was learned, gzip hardly does.

A file may have its packed codes, everything that is float (scales, biases, layers and parameters
that stay float) and 350 bytes a layer, 450 where codes are bit planes, 300 more where its inputs
are whole numbers. Time and memory are measured beside the float32 file; that file against itself
is the control.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _results import Figure, Pedigree
from torch import nn

from sqtune.deploy.graph import Graph, Packed, Quantize
from sqtune.deploy.integers.calibrate import calibrate
from sqtune.deploy.lower import Trained, lower
from sqtune.deploy.manifest import layer_table
from sqtune.deploy.measures.latency import CONTROL, Latency, latency
from sqtune.deploy.measures.measure import FLOAT32, Sizes, sizes, without_grids
from sqtune.deploy.measures.run_memory import memory_at_run_time
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.runtime import version
from sqtune.networks import Network, ResNet, ResNet18, build
from sqtune.quant import (
    Binary,
    Exponential,
    Quantizer,
    StochasticQuantization,
    Ternary,
    Uniform,
)

NETWORKS: dict[str, tuple[Network, int, int, int]] = {  # pixels, classes, calibration images
    "resnet20": (ResNet("resnet20", 16), 32, 10, 64),
    "resnet18": (ResNet18(), 224, 1000, 8),
}
QUANTIZERS: dict[str, Quantizer] = {
    "binary": Binary(),
    "ternary": Ternary(),
    "2 bits": Uniform(bits=2),
    "3 bits": Uniform(bits=3),
    "4 bits": Uniform(bits=4),
}
WITH_INT8 = ("binary", "ternary")
ONNX_LAYER, ONNX_BIT_PLANES_LAYER, ONNX_ACTIVATIONS = 350, 450, 300  # bytes, see above
MOST_INT8_RATIO = 0.5  # claimed where the processor has VNNI
REPEATS = 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLUMNS = ("network", "bytes", "bound", "of float32", "gzip", "of float32's", "bits a weight")
COLUMNS += ("latency", "control", "load", "memory", "peak")
MIB = 2**20


def random_graph(network: Network, quantizer: Quantizer, pixels: int, classes: int) -> Graph:
    """Return a network as it is deployed, with random weights and statistics."""
    torch.manual_seed(0)
    model = build(network, 3, classes, (pixels, pixels))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    model.eval()
    guest = StochasticQuantization(model, quantizer, Exponential())
    names = tuple(f"class {index}" for index in range(classes))
    about = (guest.codes(), guest.quantizers, {}, names, (3, pixels, pixels), MEAN, STD)
    return lower(Trained(model, *about))


def bound(graph: Graph, found: Sizes) -> int:
    """Return the most bytes that a file may have."""
    total = found.payload_bytes + found.scale_bytes + found.bias_bytes
    for layer in graph.layers:
        planes = isinstance(layer.weight, Packed) and layer.weight.quantizer.bits in (3, 5, 6, 7)
        total += ONNX_BIT_PLANES_LAYER if planes else ONNX_LAYER
        if isinstance(graph.made_by.get(layer.inputs[0]), Quantize):
            total += ONNX_ACTIVATIONS
    return total


def measure(
    name: str, graph: Graph, *, rounds: int, int8_bound: float | None
) -> tuple[list[Figure], list[str]]:
    """Return a network's figures, and its row of the table."""
    data = onnx_file(graph, "onnx").data
    float32 = onnx_file(without_grids(graph), "float").data
    found = sizes(data, float32, layer_table(graph, ()))
    assert found.gzip_bytes is not None
    pixels = np.random.default_rng(0).integers(0, 256, (1, *graph.image_shape), np.uint8)
    files = {name: data, FLOAT32: float32}
    turns = [latency(files, pixels, base=FLOAT32, rounds=rounds) for _ in range(REPEATS)]
    memory = [
        memory_at_run_time(file, graph.image_shape, repeats=REPEATS) for file in (data, float32)
    ]
    ours, theirs = memory
    assert ours is not None
    assert theirs is not None
    limit = bound(graph, found)
    ratios, control = _medians(turns, name, "ratio"), _medians(turns, CONTROL, "ratio")
    loads = _medians(turns, name, "load_ratio")
    figures = [
        Figure(f"{name}: file", "bytes", [found.bytes], limit),
        Figure(f"{name}: float32 file", "bytes", [found.float32_bytes]),
        Figure(f"{name}: of float32", "", [found.bytes / found.float32_bytes]),
        Figure(f"{name}: gzip -9", "bytes", [found.gzip_bytes]),
        Figure(f"{name}: float32, gzip -9", "bytes", [found.float32_gzip_bytes]),
        Figure(f"{name}: bits a weight, codes alone", "", [found.weight_bits]),
        Figure(f"{name}: bits a weight, whole file", "", [found.file_bits]),
        Figure(f"{name}: latency of float32's", "", ratios, int8_bound, claim="median"),
        Figure(f"{name}: float32 against itself", "", control),
        Figure(f"{name}: latency", "ms", _medians(turns, name, "run_ms")),
        Figure(f"{name}: float32 latency", "ms", _medians(turns, FLOAT32, "run_ms")),
        Figure(f"{name}: load time of float32's", "", loads),
        Figure(f"{name}: load time", "ms", _medians(turns, name, "load_ms")),
        Figure(f"{name}: memory in use", "MiB", [ours.in_use / MIB]),
        Figure(f"{name}: float32 memory in use", "MiB", [theirs.in_use / MIB]),
        Figure(f"{name}: memory, peak", "MiB", [ours.peak / MIB]),
        Figure(f"{name}: float32 memory, peak", "MiB", [theirs.peak / MIB]),
    ]
    row = [
        name,
        f"{found.bytes:,}",
        f"{limit:,}",
        f"{100 * found.bytes / found.float32_bytes:.1f} %",
        f"{found.gzip_bytes:,}",
        f"{100 * found.gzip_bytes / found.float32_gzip_bytes:.0f} %",
        f"{found.file_bits:.2f}",
        f"{statistics.median(ratios):.2f}",
        f"{statistics.median(control):.2f}",
        f"{statistics.median(loads):.2f}",
        f"{ours.in_use / MIB:.0f} / {theirs.in_use / MIB:.0f} MiB",
        f"{ours.peak / MIB:.0f} / {theirs.peak / MIB:.0f} MiB",
    ]
    return figures, row


def _medians(turns: Sequence[Latency], name: str, what: str) -> list[float]:
    return [float(getattr(turn.times[name], what).median) for turn in turns]


def has_vnni() -> bool:
    """Tell whether the processor multiplies 8-bit integers four at a time."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--rounds", type=int, default=12, help="turns of each file, three times")
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pedigree = Pedigree()
    vnni = has_vnni()
    figures, rows = [], []
    for network in options.networks:
        description, pixels, classes, num_images = NETWORKS[network]
        draw = torch.Generator().manual_seed(0)
        images = torch.randint(
            0, 256, (num_images, 3, pixels, pixels), dtype=torch.uint8, generator=draw
        )
        for label, quantizer in QUANTIZERS.items():
            graph = random_graph(description, quantizer, pixels, classes)
            cases = [(f"{network} {label}", graph, None)]
            if label in WITH_INT8:
                limit = MOST_INT8_RATIO if vnni else None
                cases.append((f"{network} {label}, int8", calibrate(graph, images), limit))
            for name, case, limit in cases:
                more, row = measure(name, case, rounds=options.rounds, int8_bound=limit)
                figures += more
                rows.append(row)
                print(" ".join(row), flush=True)
    pedigree.report(
        "deploy",
        figures,
        settings={
            "networks": options.networks,
            "rounds": options.rounds,
            "repeats": REPEATS,
            "batch": 1,
            "threads": 1,
            "onnxruntime": version(),
            "vnni": vnni,
            "cpus": len(os.sched_getaffinity(0)),
        },
        seeds={"weights": 0, "images": 0},
        notes=[
            "weights and batch norm statistics are random, images are noise",
            "latency and load time are medians of ratios to the float32 file, taken in turns; the "
            "control is the float32 file against itself",
            "memory is that of a fresh interpreter above its imports, packed / float32: in use "
            "after one image, and the peak, which loading has",
            "the bound on int8 latency is for processors with VNNI; this one has "
            + ("it" if vnni else "none"),
        ],
        save=not options.no_save,
        table=markdown(rows),
    )


if __name__ == "__main__":
    main()

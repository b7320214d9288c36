"""What an export costs and saves, beside the same network in float32: bytes, time, memory.

Gzip is given for both: codes of float32 weights that take few values compress well too, and a file
that only beats an uncompressed one would have proven little.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sqtune.deploy.graph import Graph, Quantize
from sqtune.deploy.manifest import Form, layer_table
from sqtune.deploy.measures.latency import latency
from sqtune.deploy.measures.run_memory import memory_at_run_time
from sqtune.deploy.onnx.model import onnx_file

if TYPE_CHECKING:
    from sqtune.deploy.forms import Written

GZIP_LEVEL = 9
PACKED, FLOAT32 = "this file", "float32"
MOST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of an exported file and of its float32 twin.

    Attributes:
        bytes: Of what is delivered.
        gzip_bytes: The same, compressed; None where it is no file (constant data in C).
        float32_bytes: Of the ONNX file with float32 weights.
        float32_gzip_bytes: The same, compressed.
        weights: Number of weights.
        payload_bytes: Of the weights: packed codes, and those that stay float.
        scale_bytes: Of the scales of codes.
        bias_bytes: Of the biases, batch norm's included.
        other_bytes: What is left: operations, names, tables, other parameters.
    """

    bytes: int
    gzip_bytes: int | None
    float32_bytes: int
    float32_gzip_bytes: int
    weights: int
    payload_bytes: int
    scale_bytes: int
    bias_bytes: int
    other_bytes: int

    @property
    def weight_bits(self) -> float:
        """Bits of a weight, scales and biases left out: 1.6 for ternary codes."""
        return 8 * self.payload_bytes / self.weights

    @property
    def file_bits(self) -> float:
        """Bits of the whole file for each weight."""
        return 8 * self.bytes / self.weights

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"weight_bits": self.weight_bits, "file_bits": self.file_bits}


def sizes(
    packed: bytes | None,
    float32: bytes,
    layers: Sequence[Mapping[str, Any]],
    delivered: int | None = None,
) -> Sizes:
    """Return the sizes of an export.

    Args:
        packed: The file; None where what is delivered is no file.
        float32: Its float32 twin.
        layers: The manifest's.
        delivered: Bytes that are delivered, where they are not the file's.
    """
    total = delivered if delivered is not None else len(packed or b"")
    payload, scales, biases = (
        sum(layer[key] for layer in layers) for key in ("packed_bytes", "scale_bytes", "bias_bytes")
    )
    return Sizes(
        bytes=total,
        gzip_bytes=None if packed is None else gzip_bytes(packed),
        float32_bytes=len(float32),
        float32_gzip_bytes=gzip_bytes(float32),
        weights=sum(layer["weights"] for layer in layers),
        payload_bytes=payload,
        scale_bytes=scales,
        bias_bytes=biases,
        other_bytes=total - payload - scales - biases,
    )


def gzip_bytes(data: bytes) -> int:
    """Return how many bytes gzip makes of a file, at its best."""
    return len(gzip.compress(data, GZIP_LEVEL, mtime=0))


def measure(
    written: Written, graph: Graph, form: Form, *, rounds: int = 60, seconds: float = MOST_SECONDS
) -> dict[str, Any]:
    """Return the manifest's `size`: bytes, and for ONNX files time and memory at run time.

    Args:
        written: What was exported.
        graph: From this.
        form: In this form.
        rounds: Turns of each file while they are timed.
        seconds: Of timing, at most.
    """
    float32 = onnx_file(without_grids(graph), "float").data
    is_file, is_onnx = form != "c", form in ("onnx", "native")
    data = next(iter(written.files.values())) if is_file else None
    found = sizes(
        data, float32, layer_table(graph, written.placements), written.size_bytes
    ).as_data()
    source = written.c_source
    ram_bytes = None if source is None else source.ram_bytes
    found |= {"latency": None, "memory": None, "ram_bytes": ram_bytes}
    found |= {"predicted_bytes": None, "predicted_ram_bytes": None, "target": None}
    if not is_onnx or data is None:
        return found
    files = {PACKED: data, FLOAT32: float32}
    pixels = np.random.default_rng(0).integers(0, 256, (1, *graph.image_shape), np.uint8)
    times = latency(files, pixels, base=FLOAT32, rounds=rounds, seconds=seconds)
    memory = {name: memory_at_run_time(each, graph.image_shape) for name, each in files.items()}
    return found | {
        "latency": times.as_data(),
        "memory": {name: None if each is None else each.as_data() for name, each in memory.items()},
    }


def without_grids(graph: Graph) -> Graph:
    """Return a graph whose activations are not rounded: what a float32 file computes."""
    stands_for: dict[int, int] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(stands_for.get(number, number) for number in node.inputs)
        if isinstance(node, Quantize):
            stands_for[node.output] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    output = stands_for.get(graph.output, graph.output)
    return replace(graph, nodes=tuple(nodes), output=output)

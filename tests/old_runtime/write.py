"""Writes files of every quantizer and kind of activations, for `run.py` under an old runtime.

    python tests/old_runtime/write.py FOLDER

Each `NAME.onnx` has its unpacked twin `NAME.twin.onnx` and, in `NAME.npz`, images and the logits
that the installed ONNX Runtime gives.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

from onnx_checks import logits
from random_graphs import QUANTIZERS, every_layer, pixels
from test_onnx_random import random_graph

from sqtune.deploy.graph import Graph
from sqtune.deploy.onnx.model import onnx_file

NUM_RANDOM = 40


def write(folder: Path, name: str, graph: Graph) -> None:
    """Write a graph's file, its twin, and what both should give."""
    images = pixels(16, graph.image_shape)
    file = onnx_file(graph, "onnx")
    (folder / f"{name}.onnx").write_bytes(file.data)
    (folder / f"{name}.twin.onnx").write_bytes(onnx_file(graph, "float").data)
    np.savez(folder / f"{name}.npz", images=images, logits=logits(file.data, images))


def main() -> None:
    """Write all files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for index, quantizer in enumerate(QUANTIZERS):
        for bits in (0, 2, 4, 8):
            name = f"{index:02}-{quantizer.name}-{quantizer.bits}-inputs-{bits}"
            write(folder, name, every_layer(quantizer, bits))
    for bits in (0, 4):
        write(folder, f"mixed-inputs-{bits}", every_layer(QUANTIZERS, bits))
    for seed in range(NUM_RANDOM):
        write(folder, f"random-{seed}", random_graph(seed))


if __name__ == "__main__":
    main()

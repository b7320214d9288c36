"""Proof that an exported file computes what was trained, before it is given to anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqtune.deploy.checks.predictions import (
    Agreement,
    Tolerance,
    check_predictions,
    compare_logits,
)
from sqtune.deploy.checks.predictions import tolerance_of as bounds_of
from sqtune.deploy.graph import Graph, Quantize
from sqtune.deploy.manifest import Form
from sqtune.deploy.runtime import Logits, Pixels, Run, open_session, runner
from sqtune.errors import ExportError

if TYPE_CHECKING:
    from sqtune.deploy.c.source import CSource

REFERENCE_IMAGES, TWIN_IMAGES, TARGET_IMAGES = 8, 256, 4
REMEDY = "This ONNX Runtime computes with its weights in another way: try another version."


Finding = Agreement | str


def as_data(found: Finding) -> Any:
    """Return a finding as plain data."""
    return asdict(found) if isinstance(found, Agreement) else found


def prove(
    ways: Mapping[str, Run], graph: Graph, pixels: Pixels, expected: Logits, what: str
) -> dict[str, Finding]:
    """Compare a file's predictions with the trained network's, however it can be run.

    Args:
        ways: What gives the file's logits, by name.
        graph: What it was written from.
        pixels: The validation split: uint8, N x C x H x W.
        expected: The trained network's logits.
        what: Names the file, for messages.

    Raises:
        ExportError: They differ by more than rounding explains.
    """
    tolerance = tolerance_of(graph)
    return {
        way: check_predictions(run, pixels, expected, tolerance, f"{what} ({way})")
        for way, run in ways.items()
    }


def prove_on_cortex_m(
    source: CSource, graph: Graph, pixels: Pixels, expected: Logits
) -> tuple[dict[str, Finding], dict[str, Any] | None]:
    """Compare the C form's predictions on an emulated Cortex-M4 with the trained network's.

    Returns:
        The finding, and what the network takes there (`sqtune.deploy.c.target`); nothing where the
        cross compiler or the emulator is not installed.

    Raises:
        ExportError: They differ by more than rounding explains, or it does not fit the board.
    """
    from sqtune.deploy.c.target import measure_on_cortex_m

    found = measure_on_cortex_m(source, pixels[:TARGET_IMAGES])
    if found is None:
        return {}, None
    agreement = compare_logits(
        found.logits, expected[:TARGET_IMAGES], tolerance_of(graph), "model.c on a Cortex-M4"
    )
    figures = {
        "core": "Cortex-M4 (emulated)",
        "compiler": found.compiler,
        "code_bytes": found.code_bytes,
        "data_bytes": found.data_bytes,
        "ram_bytes": found.ram_bytes,
        "stack_bytes": found.stack_bytes,
        "instructions": max(found.instructions),
    }
    return {"Cortex-M4": agreement}, figures


def tolerance_of(graph: Graph) -> Tolerance:
    """Return what rounding explains for a graph."""
    low_bit = any(isinstance(node, Quantize) for node in graph.nodes)
    return bounds_of("on grids" if low_bit else "float", graph.num_rounded)


def prove_onnx(
    file: Path, graph: Graph, form: Form, pixels: Pixels, expected: Logits
) -> dict[str, Finding]:
    """Compare an ONNX file with onnx's reference evaluator and with its float32 twin.

    The twin is the same network with unpacked weights: a packed file has to give its logits bit
    for bit, and to be the same graph once the runtime has loaded it.

    Raises:
        ExportError: Either differs.
    """
    from sqtune.deploy.onnx.compare import differences
    from sqtune.deploy.onnx.model import onnx_file
    from sqtune.deploy.onnx.reference import reference_run

    data, twin = file.read_bytes(), onnx_file(graph, "float").data
    tolerance, some = tolerance_of(graph), slice(0, REFERENCE_IMAGES)
    reference = check_predictions(
        reference_run(data), pixels[some], expected[some], tolerance, "onnx's reference evaluator"
    )
    sample = pixels[:TWIN_IMAGES]
    if not np.array_equal(runner(open_session(data))(sample), runner(open_session(twin))(sample)):
        raise ExportError(
            f"{file.name} gives other logits than the same network with float32 weights. {REMEDY}"
        )
    found = differences(data, twin) if form == "onnx" else []
    if found:
        raise ExportError(
            f"{file.name} runs as another graph than with float32 weights: {found[0]}. {REMEDY}"
        )
    same = f"the same logits bit for bit for {len(sample)} images"
    return {
        "reference": reference,
        "float32": f"{same}, the same graph as it runs" if form == "onnx" else same,
    }

"""ONNX Runtime, with numpy beside it: opens a model and runs it on images.

Works from ONNX Runtime 1.16 on, so that an exported folder can be checked where it is deployed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sqtune.errors import ExportError

IMAGE_INPUT, LOGITS_OUTPUT = "image", "logits"
BATCH = 256

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Run = Callable[[Pixels], Logits]


def version() -> str:
    """Return ONNX Runtime's version."""
    import onnxruntime

    found: str = onnxruntime.__version__
    return found


def refuse_older_than(oldest: str) -> None:
    """Raise ExportError where ONNX Runtime is too old for a form of file."""
    if _numbers(version()) < _numbers(oldest):
        raise ExportError(
            f"this file needs ONNX Runtime {oldest} or newer, {version()} is installed: "
            f"pip install 'onnxruntime>={oldest}', or export it anew with --form onnx."
        )


def open_session(
    model: Path | bytes,
    *,
    optimise: bool = True,
    num_threads: int = 1,
    optimised_to: Path | None = None,
) -> Any:
    """Open a model on the CPU.

    Args:
        model: The file, or what is in it.
        optimise: Whether the runtime may optimise the graph.
        num_threads: Of an operation.
        optimised_to: Where to write the graph as it runs.

    Raises:
        ExportError: ONNX Runtime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if optimised_to is not None:
        options.optimized_model_filepath = str(optimised_to)
    given = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(
            given,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # or it prints what it cannot load, and tries the same again
        )
    except Exception as error:  # the runtime has an exception for each of its states
        place = "the model" if isinstance(model, bytes) else str(model)
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"{place} cannot be loaded by ONNX Runtime {version()}: {reason}. Take a whole "
            "copy of the file, or a newer runtime."
        ) from error


def runner(session: Any) -> Run:
    """Return what gives the logits (float32, N x classes) of pixels (uint8, N x C x H x W)."""

    def run(pixels: Pixels) -> Logits:
        parts = [
            session.run([LOGITS_OUTPUT], {IMAGE_INPUT: pixels[first : first + BATCH]})[0]
            for first in range(0, len(pixels), BATCH)
        ]
        joined: Logits = np.concatenate(parts)
        return joined

    return run


def _numbers(text: str) -> tuple[int, ...]:
    """Return a version's leading numbers: (1, 32, 0) for "1.32.0+cpu"."""
    release, _, _ = text.partition("+")
    return tuple(int(part) for part in release.split(".") if part.isdigit())

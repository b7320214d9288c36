"""The forms of an exported network: which files each has, and how this machine runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqtune.deploy.exported import MODEL_FILES
from sqtune.deploy.graph import Graph
from sqtune.deploy.manifest import Form
from sqtune.deploy.runtime import BATCH, Run, open_session, runner
from sqtune.deploy.subject import Subject

if TYPE_CHECKING:
    from sqtune.deploy.c.source import CSource


@dataclass(frozen=True, slots=True)
class Written:
    """An exported network before it is on disk.

    Attributes:
        files: Contents by name; the first is the one whose size counts.
        size_bytes: What is delivered: of the file, or of the constant data in C.
        placements: Where each packed layer's codes lie in the file, in the graph's order.
        runtime: What a runtime has to know; None where there is none.
        c_source: What was written, where the form is C.
    """

    files: Mapping[str, bytes]
    size_bytes: int
    placements: tuple[Mapping[str, Any], ...] = ()
    runtime: Mapping[str, Any] | None = None
    c_source: CSource | None = None


def write_form(subject: Subject, graph: Graph, form: Form) -> Written:
    """Return an exported network in one of the forms.

    Raises:
        ExportError: The form does not know one of its operations.
    """
    if form == "torch":
        from sqtune.deploy.torch_file import torch_bytes

        data = torch_bytes(subject.saved, subject.codes)
        return Written({MODEL_FILES[form]: data}, len(data))
    if form == "c":
        from sqtune.deploy.c.source import c_source

        source = c_source(graph)
        return Written(
            {"model.c": source.source.encode(), "model.h": source.header.encode()},
            source.flash_bytes,
            c_source=source,
        )
    from sqtune.deploy.onnx.model import onnx_file

    file = onnx_file(graph, form)
    return Written(
        {MODEL_FILES[form]: file.data},
        len(file.data),
        tuple(asdict(placement) for placement in file.placements),
        {"opset": file.opset, "ir": file.ir, "oldest_onnxruntime": file.oldest_runtime},
    )


def runs(folder: Path, form: str, num_classes: int, *, run_factory: bool = False) -> dict[str, Run]:
    """Return the ways in which this machine can run an exported folder, by name.

    Args:
        folder: The folder.
        form: Of its file.
        num_classes: Logits of an image.
        run_factory: Whether the code that a file for torch names may be run.

    Raises:
        ExportError: It cannot be loaded or compiled here.
    """
    if form == "torch":
        return {"torch": _torch_run(folder, run_factory)}
    if form == "c":
        from sqtune.deploy.c.host import compiled

        return {"compiled": compiled(folder, num_classes)}
    file = folder / MODEL_FILES[form]
    return {
        "optimised": runner(open_session(file)),
        "plain": runner(open_session(file, optimise=False)),
    }


def _torch_run(folder: Path, run_factory: bool) -> Callable[[Any], Any]:
    import torch

    from sqtune.deploy.torch_file import load_torch

    model = load_torch(folder / MODEL_FILES["torch"], run_factory=run_factory)

    @torch.no_grad()
    def run(pixels: Any) -> Any:
        parts = torch.tensor(pixels).split(BATCH)
        return np.concatenate([model(part).numpy() for part in parts])

    return run

"""An exported folder, read: which form it has and where its model lies. Checked before it is used.

Needs the standard library alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqtune.deploy.checks.seal import MANIFEST
from sqtune.deploy.folder import sha256
from sqtune.errors import ExportError

MODEL_FILES = {
    "onnx": "model.onnx",
    "native": "model.onnx",
    "torch": "model.safetensors",
    "c": "model.c",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported folder whose model file is as it was written.

    Attributes:
        form: "onnx", "native", "torch" or "c".
        model: The model file.
        classes: Class names, one per logit.
        image_shape: Channels, height and width.
        oldest_runtime: The oldest ONNX Runtime that runs it; None for other forms.
        resize: Pixels of an image's shorter side before its centre crop; None: as few as that
            needs.
    """

    form: str
    model: Path
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    oldest_runtime: str | None
    resize: int | None = None


def open_exported(folder: Path) -> Exported:
    """Return what an exported folder holds.

    Raises:
        ExportError: It is none, or a file is missing or not as it was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(
            f"{folder} holds no {MANIFEST}: it is no folder that sqtune export wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        exported, expected = _read(folder, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(
            f"{path} is damaged: {_reason(error)}. Copy or export the folder anew."
        ) from error
    try:
        found = sha256(exported.model)
    except OSError as error:
        raise ExportError(
            f"{exported.model} cannot be read: {error.strerror}. Copy or export the folder anew."
        ) from error
    if found != expected:
        raise ExportError(
            f"{exported.model} is damaged: its checksum is not the one in {MANIFEST}. Copy or "
            "export the folder anew."
        )
    return exported


def _read(folder: Path, content: dict[str, Any]) -> tuple[Exported, str]:
    """Return what a manifest says, and the checksum of the model file."""
    form = content["form"]
    if form not in MODEL_FILES:
        raise ValueError(f"the form {form!r} is not known")
    name = MODEL_FILES[form]
    channels, height, width = (int(size) for size in content["input"]["shape"])
    runtime = content["runtime"] or {}
    exported = Exported(
        form=form,
        model=folder / name,
        classes=tuple(map(str, content["classes"])),
        image_shape=(channels, height, width),
        oldest_runtime=runtime["oldest_onnxruntime"] if name == MODEL_FILES["onnx"] else None,
        resize=content.get("config", {}).get("data", {}).get("resize"),
    )
    return exported, content["sha256"][name]


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)

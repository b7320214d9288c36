"""Exported folders of small networks, and how to change them so that checksums still fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from small_networks import images, small_graph

from sqtune.deploy.checking import check_folder
from sqtune.deploy.checks.described import CannotCheckError
from sqtune.deploy.checks.seal import sealed
from sqtune.deploy.checks.stored_images import StoredImages, to_npz
from sqtune.deploy.graph import Graph
from sqtune.deploy.manifest import manifest
from sqtune.deploy.onnx.model import onnx_file
from sqtune.errors import ExportError

MODEL, VERIFY, README, MANIFEST = "model.onnx", "verify.npz", "README.md", "manifest.json"


def write_folder(folder: Path, graph: Graph, logits, form="onnx", activations="float") -> Path:
    """Write what an export writes, for `images(len(logits))`."""
    folder.mkdir()
    file = onnx_file(graph, form)
    pixels = images(len(logits), graph.image_shape).numpy()
    found = np.asarray(logits, np.float32)
    stored = StoredImages(pixels, found.argmax(axis=1).astype(np.int64), found)
    (folder / MODEL).write_bytes(file.data)
    (folder / VERIFY).write_bytes(to_npz(stored))
    (folder / README).write_text("# A network\n", encoding="utf-8")
    content = manifest(
        graph,
        form=form,
        activations=activations,
        source={"study": "small", "trial": 3, "run_id": "0123", "network": "trials/3"},
        provenance={"torch": "2"},
        config={"epochs": 1},
        code=None,
        placements=[asdict(each) for each in file.placements],
        runtime={"opset": file.opset, "ir": file.ir, "oldest_onnxruntime": file.oldest_runtime},
        errors={"validation": 0.125, "num_validation": len(logits)},
        sha256={},
    )
    write_manifest(folder, content)
    return folder


def small_folder(folder: Path, quantizer, form="onnx", **more) -> Path:
    graph, logits = small_graph(quantizer, **more)
    return write_folder(folder, graph, logits, form)


def read_manifest(folder: Path) -> dict:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del content["seal"]
    return content


def write_manifest(folder: Path, content: dict, names=(MODEL, VERIFY, README)) -> None:
    """Write a manifest, sealed, with the checksums of the files as they are now."""
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if (folder / name).exists()
    }
    (folder / MANIFEST).write_text(sealed({**content, "sha256": digests}), encoding="utf-8")


def reseal(folder: Path) -> None:
    """Make the checksums of files fit again, as someone would who hides a change."""
    write_manifest(folder, read_manifest(folder))


def altered(folder: Path, **changes) -> None:
    """Change fields of the manifest, with a seal that fits."""
    content = {**read_manifest(folder), **changes}
    (folder / MANIFEST).write_text(sealed(content), encoding="utf-8")


def refuses(folder: Path, message: str, kind=ExportError) -> None:
    """Check that the folder is refused, with this message and this kind of error."""
    with pytest.raises(kind, match=message) as error:
        check_folder(folder)
    assert isinstance(error.value, CannotCheckError) == (kind is CannotCheckError)

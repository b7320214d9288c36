"""An exported folder written by hand: a real ONNX file, its manifest and its examples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE, CLASSES = (3, 8, 8), 5


def small_onnx(seed: int) -> bytes:
    """Return a network of two layers that takes pixels and gives logits.

    Its last field is one that the onnx package writes before the graph: saved again, the file has
    other bytes.
    """
    draw = np.random.default_rng(seed)
    weight = draw.choice([-0.01, 0.01], (6, 3, 3, 3)).astype(np.float32)
    head = draw.normal(size=(CLASSES, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "weight"], ["x"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(head, "head")],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, ir_version=7, opset_imports=opsets)
    return model.SerializeToString() + b"\x12\x06sqtune"  # field 2, producer_name


def exported(folder: Path, seed: int = 0, *, form: str = "onnx", trial: int = 3) -> dict[str, Any]:
    """Write what an export leaves in a folder; return its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(1).integers(0, 256, (4, *SHAPE), np.uint8)
    np.savez(folder / "verify.npz", images=images)
    (folder / "README.md").write_text("How to run it.", encoding="utf-8")
    if form in ("onnx", "native"):
        (folder / "model.onnx").write_bytes(small_onnx(seed))
    else:
        (folder / "model.c").write_text("int x;", encoding="utf-8")
    return {
        "form": form,
        "source": {"study": "study", "trial": trial, "run_id": None, "network": "resnet8"},
        "classes": [f"class {index}" for index in range(CLASSES)],
        "input": {"name": "image", "dtype": "uint8", "shape": list(SHAPE)},
        "output": {"name": "logits", "shape": [CLASSES]},
        "errors": {"validation": 0.125, "num_validation": 80, "test": 0.25, "num_test": 80},
    }


def reserialised(data: bytes) -> bytes:
    """Return a model as the onnx package would write it."""
    return onnx.load_from_string(data).SerializeToString()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

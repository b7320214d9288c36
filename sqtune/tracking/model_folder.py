"""The folder of an MLflow model around an exported ONNX file, whose bytes stay as they are."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

MODEL_FILE, EXAMPLES_FILE = "model.onnx", "verify.npz"
REQUIREMENTS = ("onnx", "onnxruntime", "numpy")
NUM_EXAMPLES = 2  # one image could be taken for a network that takes one image only


def write_model(
    place: Path, logged: LoggedModel, folder: Path, manifest: Mapping[str, Any]
) -> None:
    """Write what MLflow loads as an ONNX model and as a Python function.

    Predictions take one thread, as they did when they were compared with the trained network's.

    Args:
        place: A folder that is not there yet.
        logged: What MLflow knows of the model.
        folder: What was exported.
        manifest: What is in its `manifest.json`.
    """
    import mlflow.onnx
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    data = (folder / MODEL_FILE).read_bytes()
    shape = (-1, *manifest["input"]["shape"])
    # one input without a name takes a plain array
    pixels = TensorSpec(np.dtype(np.uint8), shape)
    logits = TensorSpec(
        np.dtype(np.float32), (-1, *manifest["output"]["shape"]), manifest["output"]["name"]
    )
    mlflow.onnx.save_model(
        data,
        place,
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=logged.source_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        signature=ModelSignature(Schema([pixels]), Schema([logits])),
        input_example=_examples(folder, manifest),
        pip_requirements=[f"{each}=={importlib.metadata.version(each)}" for each in REQUIREMENTS],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={
            "intra_op_num_threads": 1,
            "inter_op_num_threads": 1,
            "execution_mode": "sequential",
        },
        metadata={"sqtune": {key: manifest[key] for key in ("form", "source", "classes")}},
        save_as_external_data=False,
    )
    (place / MODEL_FILE).write_bytes(data)  # MLflow has written it anew


def _examples(folder: Path, manifest: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    examples = np.zeros((NUM_EXAMPLES, *manifest["input"]["shape"]), np.uint8)
    if (folder / EXAMPLES_FILE).exists():
        with np.load(folder / EXAMPLES_FILE, allow_pickle=False) as arrays:
            images = arrays["images"][:NUM_EXAMPLES]
        examples[: len(images)] = images
    return examples

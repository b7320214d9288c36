"""What an export is asked for is checked before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqtune.deploy.export import Request
from sqtune.errors import ExportError

SOURCE = {"study": None, "trial": None, "run_id": None, "network": "net"}


@pytest.mark.parametrize(
    ("form", "activations", "message"),
    [
        ("tflite", "trained", "form: 'tflite' is unknown. Known are: onnx, native, torch, c"),
        ("onnx", "int3", "activations: 'int3' is unknown. Did you mean"),
        ("onnx", "float", "activations: 'float' is unknown."),
    ],
)
def test_a_form_that_there_is_not_is_refused(form, activations, message):
    with pytest.raises(ExportError, match=message):
        Request(Path("net"), None, Path("out"), form, activations, SOURCE)

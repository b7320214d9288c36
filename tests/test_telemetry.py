"""Nothing is recorded or sent by what sqtune loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_onnx_runtime_records_nothing(tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environ["HOME"] = str(tmp_path)
    code = "import sqtune.deploy.runtime as runtime; print(runtime.version())"
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)
    assert list(tmp_path.rglob("*")) == []

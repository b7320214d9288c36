"""What a process takes to run an ONNX file, measured in a fresh interpreter.

Only numpy and ONNX Runtime are in it; it runs
`python -m sqtune.deploy.measures.run_memory FILE C H W`. Linux tells memory apart as it
is needed; elsewhere nothing is measured.

Loading frees several times what it keeps (unpacked codes, the file, weights before they are laid
out anew). glibc holds on to most of that until it is told to let go (`malloc_trim`), so what is in
use is a good deal less than what the process has.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class RunMemory:
    """Bytes of resident memory above those of an interpreter that has imported ONNX Runtime.

    Attributes:
        loaded: After the file was loaded.
        ran: After one image.
        in_use: The same, once freed memory has gone back to the system.
        peak: The most until then.
    """

    loaded: int
    ran: int
    in_use: int
    peak: int

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def memory_at_run_time(
    model: bytes, image_shape: tuple[int, ...], *, repeats: int = 1
) -> RunMemory | None:
    """Return what a file takes where it runs: medians over so many fresh interpreters.

    Args:
        model: An ONNX file.
        image_shape: Channels, height and width.
        repeats: Of the measurement.

    Returns:
        None where the system does not say, or no fresh interpreter runs.
    """
    if not STATUS.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model)
        command = [sys.executable, "-P", "-m", "sqtune.deploy.measures.run_memory", str(file)]
        command += map(str, image_shape)
        found = []
        for _ in range(repeats):
            try:
                answer = subprocess.run(
                    command,
                    capture_output=True,
                    check=True,
                    timeout=TIMEOUT_SECONDS,
                    env={**os.environ, "PYTHONPATH": _this_package()},
                )
            except (OSError, subprocess.SubprocessError):
                return None
            found.append(json.loads(answer.stdout))
    names = [field.name for field in fields(RunMemory)]
    return RunMemory(*(round(statistics.median(each[name] for each in found)) for name in names))


def _this_package() -> str:
    """Return a search path on which the fresh interpreter finds the code that runs here."""
    here, known = str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")
    return here if not known else os.pathsep.join((here, known))


def _measure(file: Path, image_shape: tuple[int, ...]) -> dict[str, int]:
    import numpy as np

    from sqtune.deploy.runtime import open_session, runner, version

    version()  # imports ONNX Runtime
    pixels = np.full((1, *image_shape), 127, np.uint8)
    start = _resident()
    session = open_session(file)
    loaded = _resident()
    runner(session)(pixels)
    ran = _resident()
    peak = max(_peak(), loaded, ran)
    _let_go()
    found = {"loaded": loaded, "ran": ran, "in_use": _resident(), "peak": peak}
    return {name: max(0, value - start) for name, value in found.items()}


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return 1024 * int(value.split()[0])
    raise KeyError(key)


def _let_go() -> None:
    """Give freed memory back; C libraries other than glibc do so by themselves, or never."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main(arguments: list[str]) -> None:
    """Print as JSON what a file takes."""
    file, *shape = arguments
    print(json.dumps(_measure(Path(file), tuple(map(int, shape)))))


if __name__ == "__main__":
    main(sys.argv[1:])

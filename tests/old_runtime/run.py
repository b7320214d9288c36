"""Runs files that `write.py` wrote, under whatever ONNX Runtime this environment has.

    PYTHONPATH=. python tests/old_runtime/run.py FOLDER

Needs numpy and onnxruntime alone. Each file has to give the very bits that its unpacked twin gives
here, and the class that the runtime that it was written under gave.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sqtune.deploy.runtime import open_session, runner, version

CLEAR = 0.2  # of the logits' spread: a code at the middle between two may fall otherwise


def problem(path: Path) -> str:
    """Return what is wrong with a file here; nothing if nothing is."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as about:
        images, wanted = about["images"], about["logits"]
    packed, twin = (runner(open_session(p))(images) for p in (path, path.with_suffix(".twin.onnx")))
    if not np.array_equal(packed, twin):
        return f"other bits than its twin, by up to {np.abs(packed - twin).max()}"
    best = np.sort(wanted, axis=1)
    is_clear = best[:, -1] - best[:, -2] > CLEAR * wanted.std()
    others = ((packed.argmax(axis=1) != wanted.argmax(axis=1)) & is_clear).sum()
    return f"another class for {others} of {len(images)} images" if others > 1 else ""


def main() -> int:
    """Run all files; return the exit code."""
    paths = sorted(p for p in Path(sys.argv[1]).glob("*.onnx") if ".twin" not in p.name)
    found = {path.stem: problem(path) for path in paths}
    wrong = [f"{name}: {what}" for name, what in found.items() if what]
    print(f"ONNX Runtime {version()}: {len(paths) - len(wrong)} of {len(paths)} files as they were")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main())

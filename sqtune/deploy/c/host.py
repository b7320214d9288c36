"""The C form on this machine: compiled by its C compiler and called in this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sqtune.deploy.runtime import Logits, Pixels, Run
from sqtune.errors import ExportError

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC", "-ffp-contract=off")
SECONDS = 120


def compiler() -> str:
    """Return this machine's C compiler.

    Raises:
        ExportError: It has none.
    """
    for name in COMPILERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise ExportError(
        "the C form is proven by compiling and running it, and there is no C compiler here: "
        "install gcc or clang."
    )


def compiled(folder: Path, num_classes: int) -> Run:
    """Return what runs FOLDER/model.c on pixels (uint8, N x C x H x W), image by image.

    Raises:
        ExportError: There is no compiler, or it refuses the source.
    """
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "model.so"
        command = [compiler(), *FLAGS, str(folder / "model.c"), "-o", str(library), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            reason = done.stderr.strip().partition("\n")[0]
            raise ExportError(
                f"{folder / 'model.c'} cannot be compiled: {reason}. Take another compiler, or a "
                "whole copy of the folder."
            )
        model = ctypes.CDLL(str(library))  # the process keeps it when the file is gone

    def run(pixels: Pixels) -> Logits:
        images = np.ascontiguousarray(pixels)
        logits = np.empty((len(images), num_classes), np.float32)
        for image, result in zip(images, logits, strict=True):
            model.model_run(_pointer(image), _pointer(result))
        return logits

    return run


def _pointer(values: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)

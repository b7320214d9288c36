"""Networks in C, compiled by the machine's gcc into one library and called in this process."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from sqtune.deploy.c.source import CSource

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-pedantic")


def written(sources: Sequence[CSource], folder: Path) -> list[str]:
    """Write headers and sources; return the names of the sources."""
    for source in sources:
        (folder / f"{source.name}.h").write_text(source.header, encoding="utf-8")
        (folder / f"{source.name}.c").write_text(source.source, encoding="utf-8")
    return [f"{source.name}.c" for source in sources]


def library(sources: Sequence[CSource], folder: Path, *flags: str) -> ctypes.CDLL:
    command = ["gcc", *STRICT, *(flags or ("-O1",)), "-shared", "-fPIC", "-o", "models.so"]
    subprocess.run([*command, *written(sources, folder), "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "models.so"))


def logits(models: ctypes.CDLL, source: CSource, pixels: Tensor) -> np.ndarray:
    """Run images; what `NAME_predict` says has to be where the largest logit is."""
    made = np.zeros((len(pixels), source.num_classes), np.float32)
    run = getattr(models, f"{source.name}_run")
    predict = getattr(models, f"{source.name}_predict")
    for image, row in zip(pixels.contiguous().numpy(), made, strict=True):
        run(_pointer(image), _pointer(row))
        assert predict(_pointer(image)) == row.argmax()
    return made


def _pointer(values: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def errors(made: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return each image's largest error, relative to the largest logit of all."""
    return np.abs(made - expected).max(axis=1) / np.abs(expected).max()

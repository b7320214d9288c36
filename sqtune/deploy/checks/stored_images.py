"""verify.npz: images and torch's logits of them, read without pickle and within bounds."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqtune.errors import ExportError

MAX_IMAGES = 1000
MAX_BYTES = 1 << 30  # of all arrays: a small file may unpack to a thousand times its size


@dataclass(frozen=True, slots=True, eq=False)
class StoredImages:
    """Images and what is known of them.

    Attributes:
        images: uint8, N x channels x height x width.
        labels: int64, N.
        logits: float32, N x classes: the trained network's, by torch.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]


def to_npz(stored: StoredImages) -> bytes:
    """Return a file of images, labels and logits; equal arrays give equal files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("images", "labels", "logits"):
            array = io.BytesIO()
            np.lib.format.write_array(array, getattr(stored, name), allow_pickle=False)
            # a fixed time: savez writes now's
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def stored_images(data: bytes, image_shape: tuple[int, ...], num_classes: int) -> StoredImages:
    """Read verify.npz.

    Raises:
        ExportError: It is damaged, or is not of these images and classes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sorted(archive.namelist()) != ["images.npy", "labels.npy", "logits.npy"]:
                raise ValueError(f"it holds {len(archive.namelist())} other files than its three")
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"its arrays take more than {MAX_BYTES} bytes")
            logits = _array(archive, "logits", np.float32, (None, num_classes))
            num = len(logits)
            images = _array(archive, "images", np.uint8, (num, *image_shape))
            labels = _array(archive, "labels", np.int64, (num,))
            if not np.isfinite(logits).all():
                raise ValueError("its logits are not finite")
            if not ((labels >= 0) & (labels < num_classes)).all():
                raise ValueError(f"its labels are not all 0 to {num_classes - 1}")
    except Exception as error:  # what zipfile, zlib, ast and numpy make of damage is a long list
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ExportError(
            f"verify.npz is damaged or not this network's: {reason}. "
            "Take a whole copy of the folder."
        ) from None
    return StoredImages(images, labels, logits)


def _array(
    archive: zipfile.ZipFile, name: str, kind: type[np.generic], shape: tuple[int | None, ...]
) -> Any:
    """Return an array whose type and shape were compared before anything of it was read."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file, warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns of headers by Python 2: not ours
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is no array of numpy's format 1.0")
        found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.dtype(kind) or fortran or dtype.hasobject:
            raise ValueError(f"{name} is of type {dtype}, not {np.dtype(kind)} in C order")
        fits = len(found) == len(shape) and all(
            have == want or (want is None and 0 < have <= MAX_IMAGES)
            for have, want in zip(found, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{name} has shape {found}, not {shape} with up to {MAX_IMAGES} rows")
        size = math.prod(found) * dtype.itemsize
        raw = file.read(size + 1)
    if len(raw) != size:
        raise ValueError(f"{name} takes {len(raw)} bytes, not {size}")
    return np.frombuffer(raw, dtype).reshape(found)

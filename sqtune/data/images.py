"""Image sets in memory: CIFAR and folders of images, read with torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sqtune.data.spec import Cifar, ImageFolder
from sqtune.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Images:
    """A labelled set of images.

    Attributes:
        pixels_NCHW: uint8.
        labels_N: int64, indices into `classes`.
        classes: Class names.
    """

    pixels_NCHW: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]
    classes: tuple[str, ...]


def load_cifar(data: Cifar) -> tuple[Images, Images]:
    """Return CIFAR's training and test images; downloads them at first use.

    Raises:
        DataError: The download failed or the files are damaged.
    """
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[data.name]
    root = Path(data.root).expanduser()
    try:
        train, test = (kind(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{data.name} could not be read from or downloaded to {root}: {error}. Check the "
            "network, or put the extracted archive there by hand (trial.data.root names the "
            "folder)."
        ) from error
    return _from_torchvision(train), _from_torchvision(test)


def _from_torchvision(dataset: Any) -> Images:
    pixels = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))
    return Images(pixels, np.asarray(dataset.targets, dtype=np.int64), tuple(dataset.classes))


def folder_fingerprint(data: ImageFolder) -> list[tuple[str, int, int]]:
    """Return (path, size, modification time in ns) of every image below the folder, sorted.

    Raises:
        DataError: The folder is not there or has no images.
    """
    root = Path(data.root).expanduser()
    if not root.is_dir():
        raise DataError(
            f"trial.data.root: {root} is not a folder. Give the folder that holds one sub-folder "
            "of images per class (or train/ and test/ with such sub-folders)."
        )
    files = image_files(root)
    if not files:
        raise DataError(
            f"trial.data.root: {root} has no images ({', '.join(IMAGE_SUFFIXES)}) in it."
        )
    stats = [(path, path.stat()) for path in files]
    return [(str(p.relative_to(root)), stat.st_size, stat.st_mtime_ns) for p, stat in stats]


def image_files(folder: Path) -> list[Path]:
    """Return every image below a folder, by its suffix, sorted."""
    return sorted(path for path in folder.rglob("*") if _is_image(path.name))


def load_image_folder(data: ImageFolder) -> tuple[Images, Images | None]:
    """Return the folder's training images and, where it has a test split, its test images.

    Raises:
        DataError: The folder is missing or empty, an image cannot be read, images differ in size
            while no image_size is given, or the splits differ in their classes.
    """
    folder_fingerprint(data)
    root = Path(data.root).expanduser()
    if not (root / "train").is_dir():
        return _read_folder(root, data), None
    train = _read_folder(root / "train", data)
    if not (root / "test").is_dir():
        return train, None
    test = _read_folder(root / "test", data)
    sizes = [images.pixels_NCHW.shape[2:] for images in (train, test)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{root}: images in train are {sizes[0][0]}x{sizes[0][1]}, in test "
            f"{sizes[1][0]}x{sizes[1][1]}. Give trial.data.image_size."
        )
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise DataError(f"{root}: train and test differ in these classes: {', '.join(odd)}.")
    return train, test


def _read_folder(root: Path, data: ImageFolder) -> Images:
    from torchvision import datasets

    try:
        folder = datasets.ImageFolder(str(root), is_valid_file=_is_image)
    except (FileNotFoundError, OSError) as error:
        raise DataError(f"{root} cannot be read as one folder of images per class: {error}.") from (
            error
        )
    size = None if data.image_size is None else (data.image_size, data.image_size)
    pixels = [read_image(Path(path), data.channels, size) for path, _ in folder.samples]
    for (path, _), image in zip(folder.samples, pixels, strict=True):
        if image.shape != pixels[0].shape:
            height, width = image.shape[1:]
            raise DataError(
                f"{path} is {height}x{width} while others are "
                f"{pixels[0].shape[1]}x{pixels[0].shape[2]}. Give trial.data.image_size."
            )
    labels = np.asarray(folder.targets, dtype=np.int64)
    return Images(np.stack(pixels), labels, tuple(folder.classes))


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def read_image(
    path: Path, channels: int, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Return an image's pixels, C x H x W.

    Args:
        path: The file.
        channels: 3 (colour) or 1 (grey).
        size: Height and width it is brought to: shorter side resized, centre cropped; None leaves
            it as it is.

    Raises:
        DataError: It cannot be read as an image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = file.convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as an image: {error}. Mend or remove it."
        ) from error
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    if channels == 1:
        return pixels[None]
    # Contiguous: a stack of transposed views is channels-last, which safetensors does not store.
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))

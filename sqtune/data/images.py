"""Image sets in memory, and single images of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sqtune.data.spec import Cifar
from sqtune.errors import DataError
from sqtune.files import expanded

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

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

    def __len__(self) -> int:
        return len(self.labels_N)

    def part(self, ids: Sequence[int]) -> Images:
        """Return some of them."""
        chosen = list(ids)
        return Images(self.pixels_NCHW[chosen], self.labels_N[chosen], self.classes)


def load_cifar(data: Cifar) -> tuple[Images, Images]:
    """Return CIFAR's training and test images; downloads them at first use.

    Raises:
        DataError: The download failed or the files are damaged.
    """
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[data.name]
    root = expanded(data.root, "trial.data.root")
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


def image_files(folder: Path) -> list[Path]:
    """Return every image below a folder, by its suffix, sorted."""
    return sorted(path for path in folder.rglob("*") if is_image(path.name))


def is_image(path: str) -> bool:
    """Tell whether a file is an image by its suffix."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def read_image(
    path: Path, channels: int, size: tuple[int, int] | None = None, resize: int | None = None
) -> npt.NDArray[np.uint8]:
    """Return an image's pixels, C x H x W.

    Args:
        path: The file.
        channels: 3 (colour) or 1 (grey).
        size: Height and width it is brought to: shorter side resized, centre cropped; None leaves
            it as it is.
        resize: Pixels of the shorter side before the crop, at least those of `size`; by default
            as few as the crop needs.

    Raises:
        DataError: It cannot be read as an image.
    """
    from PIL import Image, ImageOps

    image = open_image(path, channels)
    if size is not None:
        height, width = size
        if resize is not None and resize > min(size):
            factor = resize / min(image.size)
            larger = tuple(max(round(side * factor), resize) for side in image.size)
            image = image.resize((larger[0], larger[1]), Image.Resampling.BILINEAR)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        else:
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return to_pixels(image, channels)


def open_image(path: Path, channels: int) -> PILImage:
    """Return an image of 3 channels (colour) or 1 (grey), 8 bits each, upright.

    Of 16 bits a pixel the upper 8 are taken; a camera's note of how it was held is followed.

    Raises:
        DataError: It cannot be read as an image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode in ("I", "F"):
                raise ValueError(
                    "it has 32 bits a pixel, which may mean anything: save it with 8 or 16"
                )
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as an image: {error}. Mend or remove it."
        ) from error


def to_pixels(image: PILImage, channels: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image, C x H x W."""
    pixels = np.array(image, dtype=np.uint8)
    if channels == 1:
        return pixels[None]
    # Contiguous: a stack of transposed views is channels-last, which safetensors does not store.
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))

"""Folders of images: found, checked, and read into memory where they fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sqtune.data.folder_checks import (
    check_colour,
    refuse_parts_for_classes,
    refuse_unread_parts,
)
from sqtune.data.images import IMAGE_SUFFIXES, Images, image_files, is_image, read_image
from sqtune.data.spec import ImageFolder, ImageNet
from sqtune.data.stream import LEAVE_OUT, View
from sqtune.errors import DataError
from sqtune.files import expanded

LARGEST_IN_MEMORY = 4 * 10**9  # bytes of images, train and test


@dataclass(frozen=True, slots=True)
class Files:
    """Labelled image files.

    Attributes:
        names: Relative to the set's root.
        labels_N: int64, indices into `classes`.
        classes: Class names.
        facts: (name, bytes, modification time in ns) of each.
        view: What becomes of them, as plain data.
    """

    names: Sequence[str]
    labels_N: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    facts: Sequence[tuple[str, int, int]]
    view: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, ids: Sequence[int]) -> Files:
        """Return some of them."""
        names, facts = [self.names[i] for i in ids], [self.facts[i] for i in ids]
        return Files(names, self.labels_N[list(ids)], self.classes, facts, self.view)


def _root(data: ImageFolder | ImageNet) -> Path:
    root = expanded(data.root, "trial.data.root")
    if root.is_dir():
        return root
    inside = "train/ and val/ with one sub-folder of images per class, as torchvision's ImageFolder"
    if isinstance(data, ImageFolder):
        inside = (
            "one sub-folder of images per class (or train/ and test/ with such sub-folders), as "
            "torchvision's ImageFolder"
        )
    raise DataError(
        f"trial.data.root: {root} is not a folder. Give the folder that holds {inside} reads them."
    )


def folder_fingerprint(data: ImageFolder | ImageNet) -> list[tuple[str, int, int]]:
    """Return (path, size, modification time in ns) of every image below the folder, sorted.

    Raises:
        DataError: The folder is not there or has no images.
    """
    root = _root(data)
    files = image_files(root)
    if not files:
        raise DataError(
            f"trial.data.root: {root} has no images ({', '.join(IMAGE_SUFFIXES)}) in it. Give the "
            "folder that holds one folder of images per class."
        )
    return [_facts(path, root) for path in files]


def _facts(path: Path, root: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns


def find_files(data: ImageFolder | ImageNet) -> tuple[Files, Files | None]:
    """Return the folder's training files and, where it has a test split, its test files.

    Raises:
        DataError: The folder is missing or empty, a class has no images, or the splits differ in
            their classes.
    """
    root = _root(data)
    folder_fingerprint(data)
    test_name = "val" if isinstance(data, ImageNet) else "test"
    if isinstance(data, ImageNet):
        for name in ("train", "val"):
            if not (root / name).is_dir():
                raise DataError(
                    f"trial.data.root: {root} has no folder {name}. ImageNet lies in "
                    "ROOT/train/CLASS/ and ROOT/val/CLASS/."
                )
    if not (root / "train").is_dir():
        refuse_parts_for_classes(root)
        files = _labelled(root, root, data)
        if data.channels == 3:
            check_colour(root, {"it": files})
        return files, None
    train = _labelled(root / "train", root, data)
    if not (root / test_name).is_dir():
        refuse_unread_parts(root)
        if data.channels == 3:
            check_colour(root, {"train": train})
        return train, None
    test = _labelled(root / test_name, root, data)
    if train.classes != test.classes:
        lacks = {
            "train": sorted(set(test.classes) - set(train.classes)),
            test_name: sorted(set(train.classes) - set(test.classes)),
        }
        words = [
            f"{root / split} lacks {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for split, names in lacks.items()
            if names
        ]
        raise DataError(
            f"train and {test_name} differ in their classes: {'; '.join(words)}. Each class has a "
            "folder in both."
        )
    if data.channels == 3:
        check_colour(root, {"train": train, test_name: test})
    return train, test


def _labelled(folder: Path, root: Path, data: ImageFolder | ImageNet) -> Files:
    from torchvision import datasets

    try:
        found = datasets.ImageFolder(str(folder), is_valid_file=is_image)
    except (FileNotFoundError, OSError) as error:
        reason = str(error).partition("Supported extensions")[0].strip().rstrip(".")
        raise DataError(
            f"{folder} cannot be read as one folder of images per class: {reason}. Give each class "
            "a sub-folder with at least one image; remove the others."
        ) from error
    paths = [Path(path) for path, _ in found.samples]
    labels = np.asarray(found.targets, dtype=np.int64)
    names, facts = [str(path.relative_to(root)) for path in paths], []
    facts = [_facts(path, root) for path in paths]
    shown = (
        (data.image_size, data.resize, data.crop)
        if isinstance(data, ImageNet)
        else (data.image_size, data.channels)
    )
    return Files(names, labels, tuple(found.classes), facts, shown)


def streams(data: ImageFolder | ImageNet, train: Files, test: Files | None) -> bool:
    """Tell whether a set is read anew in each epoch instead of kept in memory."""
    if isinstance(data, ImageNet) or data.storage == "stream":
        return True
    if data.storage == "memory" or data.image_size is None:
        return False
    num_images = len(train) + (0 if test is None else len(test))
    return num_images * data.channels * data.image_size**2 > LARGEST_IN_MEMORY


def view_of(data: ImageFolder | ImageNet, *, training: bool) -> View:
    """Return what becomes of the images of a streamed set."""
    assert data.image_size is not None
    if isinstance(data, ImageFolder):
        return View(data.channels, data.image_size, data.image_size, "centre", data.damaged)
    crop = data.crop if training else "centre"
    return View(data.channels, data.image_size, data.resize, crop, data.damaged)


def read_files(data: ImageFolder, train: Files, test: Files | None) -> tuple[Images, Images | None]:
    """Read a folder's images into memory.

    Raises:
        DataError: An image cannot be read, or images differ in size while no image_size is given.
    """
    root = expanded(data.root)
    read = _read(data, root, train)
    if test is None:
        return read, None
    read_test = _read(data, root, test)
    sizes = [images.pixels_NCHW.shape[2:] for images in (read, read_test)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{root}: images in train are {sizes[0][0]}x{sizes[0][1]}, in test "
            f"{sizes[1][0]}x{sizes[1][1]}. Give trial.data.image_size."
        )
    return read, read_test


def _read(data: ImageFolder, root: Path, files: Files) -> Images:
    size = None if data.image_size is None else (data.image_size, data.image_size)
    pixels, first = None, ""
    kept: list[int] = []
    damaged: list[str] = []
    for index, name in enumerate(files.names):
        path = root / name
        try:
            image = read_image(path, data.channels, size)
        except DataError as error:
            if data.damaged == "error":
                raise DataError(f"{error} {LEAVE_OUT}") from error
            damaged.append(str(error))
            continue
        if pixels is None:
            if data.storage == "auto" and len(files) * image.size > LARGEST_IN_MEMORY:
                raise DataError(
                    f"{root}: {len(files)} images like {name} take "
                    f"{len(files) * image.size / 1e9:.1f} GB of memory, more than "
                    f"{LARGEST_IN_MEMORY / 1e9:g}. Give trial.data.image_size, with which they are "
                    "read anew in each epoch, or trial.data.storage=memory."
                )
            pixels, first = np.empty((len(files), *image.shape), np.uint8), name
        if image.shape != pixels.shape[1:]:
            height, width = image.shape[1:]
            raise DataError(
                f"{path} is {height}x{width} while others are "
                f"{pixels.shape[2]}x{pixels.shape[3]}, such as {first}. Give "
                "trial.data.image_size, to which all are brought."
            )
        pixels[len(kept)] = image
        kept.append(index)
    if damaged:
        logging.getLogger(__name__).warning(
            "%d of %d images were left out. The first: %s", len(damaged), len(files), damaged[0]
        )
    if pixels is None:
        raise DataError(f"no image below {root} can be read. Mend the files.")
    return Images(pixels[: len(kept)], files.labels_N[kept], files.classes)

"""What a folder of images may look like and is not: parts with other names, grey for colour."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sqtune.data.images import image_files, is_image
from sqtune.errors import DataError

if TYPE_CHECKING:
    from sqtune.data.folders import Files

LOOKED_AT = 64  # files that show whether a set is grey
GREY = ("1", "L", "LA", "I", "I;16", "F")  # modes of Pillow


def refuse_parts_for_classes(root: Path) -> None:
    """Find parts where classes are expected, as in ROOT/Training/CLASS and ROOT/Testing/CLASS.

    Raises:
        DataError: All folders in ROOT hold the same two folders or more, and no images themselves.
    """
    inside = {
        folder.name: {path.name for path in _folders(folder)}
        for folder in _folders(root)
        if not any(is_image(str(path)) for path in folder.iterdir())
    }
    if len(inside) < max(2, len(_folders(root))):
        return
    first, *rest = inside.values()
    if len(first) > 1 and all(names == first for names in rest):
        raise DataError(
            f"{root}: {', '.join(list(inside)[:5])} hold no images but the same folders, such as "
            f"{min(first)}. Name what is trained on train and what is tested on test."
        )


def refuse_unread_parts(root: Path) -> None:
    """Find images beside ROOT/train that nobody would read, as in ROOT/val.

    Raises:
        DataError: There are some.
    """
    others = [folder.name for folder in _folders(root) if folder.name != "train"]
    unread = [name for name in others if image_files(root / name)]
    if unread:
        raise DataError(
            f"{root} has images in train and in {', '.join(unread[:5])}, but no test. Name what is "
            "tested on test, or move it elsewhere: a part of train is tested on then."
        )


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, but for hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def check_colour(root: Path, parts: Mapping[str, Files]) -> None:
    """Look at a sample of each part of a set that is to be in colour.

    Raises:
        DataError: Parts, or all of it, are grey.
    """
    grey = {name: _is_grey(root, files) for name, files in parts.items()}
    if not any(grey.values()):
        return
    if all(grey.values()):
        raise DataError(
            f"the images in {root} are grey, and trial.data.channels is 3 (colour). Give "
            "trial.data.channels=1: three equal channels would be two too many."
        )
    which, other = sorted(grey, key=lambda name: not grey[name])
    raise DataError(
        f"{root}: the images in {which} are grey, those in {other} are not. Take the same images "
        "for both, or trial.data.channels=1, which makes all grey."
    )


def _is_grey(root: Path, files: Files) -> bool:
    """Tell whether the files that are looked at, spread over a split, are all stored as grey."""
    from PIL import Image

    step, grey = max(1, len(files) // LOOKED_AT), []
    for name in files.names[::step]:
        try:
            with Image.open(root / name) as image:
                grey.append(image.mode in GREY)
        except (OSError, SyntaxError, ValueError):
            continue  # whoever reads it says so
    return bool(grey) and all(grey)

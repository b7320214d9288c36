"""Where files lie that several machines share: a local folder, or any URL that fsspec knows.

A file is written as a whole or not at all; `create` makes one only where there is none.
"""

from __future__ import annotations

from pathlib import Path

from sqtune.files.base import Files, Listed
from sqtune.files.later import LaterFiles
from sqtune.files.local import LocalFiles
from sqtune.files.patience import patiently
from sqtune.files.remote import RemoteFiles

__all__ = [
    "Files",
    "LaterFiles",
    "Listed",
    "LocalFiles",
    "RemoteFiles",
    "files_at",
    "folder_of",
    "is_url",
    "patiently",
]

FOLDER_SCHEME = "file://"


def is_url(place: Path | str) -> bool:
    """Tell whether a place is a URL; file:///FOLDER is a folder."""
    return "://" in str(place) and not str(place).startswith(FOLDER_SCHEME)


def folder_of(place: Path | str) -> Path:
    """Return the folder that a place which is no URL names."""
    return Path(str(place).removeprefix(FOLDER_SCHEME)).expanduser()


def files_at(place: Path | str) -> Files:
    """Return the files in a local folder or under a URL.

    Raises:
        ValueError or ImportError: fsspec does not know the URL, or needs another package for it.
    """
    return RemoteFiles(str(place)) if is_url(place) else LocalFiles(folder_of(place))

"""Where files lie that several machines share: a local folder, or any URL that fsspec knows.

A file is written as a whole or not at all; `create` makes one only where there is none.
"""

from __future__ import annotations

from pathlib import Path

from sqtune.errors import ConfigError
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
    "expanded",
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
    """Return the folder that a place which is no URL names.

    Raises:
        ConfigError: It begins with a home folder that nobody knows.
    """
    return expanded(str(place).removeprefix(FOLDER_SCHEME))


def expanded(path: Path | str, field: str | None = None) -> Path:
    """Return a path with the home folder in place of its "~" or "~NAME".

    Args:
        path: As it was written.
        field: Where it stands in the configuration, for the message.

    Raises:
        ConfigError: Nobody of that name has a home folder here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{f'{field}: ' if field else ''}{path}: no home folder is known for "
            f"{Path(path).parts[0]}. Give the whole path, or ./{path} where it is a name."
        ) from None


def files_at(place: Path | str) -> Files:
    """Return the files in a local folder or under a URL.

    Raises:
        ValueError or ImportError: fsspec does not know the URL, or needs another package for it.
    """
    return RemoteFiles(str(place)) if is_url(place) else LocalFiles(folder_of(place))

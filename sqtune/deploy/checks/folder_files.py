"""The files of an exported folder: read only from inside of it, and each as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from sqtune.deploy.checks.seal import MANIFEST
from sqtune.errors import ExportError

COPY = "Take a whole copy of the folder."


def read_file(folder: Path, name: str, *, at_most: int | None = None) -> bytes:
    """Return what is in a file of the folder.

    Raises:
        ExportError: It is missing, no plain file, leads out of the folder, or is too large.
    """
    path = folder / name
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve(strict=True)):
            raise ExportError(f"{path} leads out of its folder. {COPY}")
        if not path.is_file():
            raise ExportError(f"{path} is no plain file. {COPY}")
        with path.open("rb") as file:
            data = file.read() if at_most is None else file.read(at_most + 1)
    except FileNotFoundError:
        raise ExportError(f"{path} is missing. {COPY}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ExportError(f"{path} cannot be read: {error}. {COPY}") from None
    if at_most is not None and len(data) > at_most:
        raise ExportError(f"{path} is larger than {at_most} bytes. {COPY}")
    return data


def check_files(
    folder: Path, sha256: Mapping[str, str], keep: Collection[str]
) -> tuple[int, dict[str, bytes]]:
    """Compare all files with their checksums, and those that are kept are there.

    Returns:
        The bytes of all files together, and what is in those to keep: what is used later is what
        was compared, even where a file is replaced meanwhile.

    Raises:
        ExportError: A file is missing or altered.
    """
    for name in keep:
        if name not in sha256:
            raise ExportError(f"{MANIFEST}: sha256 has no {name}, which this form has. {COPY}")
    num_bytes, kept = 0, {}
    for name, wanted in sha256.items():
        data = read_file(folder, name)
        if hashlib.sha256(data).hexdigest() != wanted:
            raise ExportError(
                f"{folder / name} was changed after the export, or is damaged: its sha256 is not "
                f"the one in {MANIFEST}. {COPY}"
            )
        num_bytes += len(data)
        if name in keep:
            kept[name] = data
    return num_bytes, kept


def extra_files(folder: Path, sha256: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of what else is in the folder, safe to print."""
    known = {MANIFEST, *sha256}
    return tuple(sorted(ascii(path.name) for path in folder.iterdir() if path.name not in known))

"""The exported folder: made beside its place, and given its name as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqtune.deploy.checks.seal import MANIFEST
from sqtune.errors import ExportError


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a folder to write into for the block; at its end it takes the place of `out`.

    Whatever is raised in the block leaves `out` as it was and nothing beside it.

    Args:
        out: A new folder or an empty one.
        force: Whether it may replace a folder that `sqtune export` wrote.

    Raises:
        ExportError: Something else is there, or nothing can be written there.
    """
    refuse_taken(out, force=force)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _take_place(partial, out)
    except OSError as error:
        raise ExportError(
            f"--out {out}: cannot be written: {error.strerror or error}. Give another path."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_taken(out: Path, *, force: bool) -> None:
    """Raise ExportError where an export would replace something that it may not replace."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise ExportError(f"--out {out}: exists and is no folder. Give another path.")
    if out.resolve() == Path.cwd():
        raise ExportError(f"--out {out}: is the folder you are in. Give another path.")
    if os.path.ismount(out):
        raise ExportError(f"--out {out}: is where a disk is mounted. Give a folder in it.")
    found = sorted(path.name for path in out.iterdir())
    if not found:
        return
    foreign = _foreign(out, found)
    if foreign is not None:
        raise ExportError(
            f"--out {out}: holds {foreign}, which sqtune did not write: it does not replace the "
            "folder, even with --force. Give another path."
        )
    if not force:
        raise ExportError(
            f"--out {out}: holds an exported network already. Give another path, or --force to "
            "replace it."
        )


def _foreign(out: Path, found: Sequence[str]) -> str | None:
    """Return a file of a folder that no export wrote; None if all are of one."""
    try:
        manifest = json.loads((out / MANIFEST).read_bytes())
        ours = {MANIFEST, *manifest["sha256"]} if "seal" in manifest else set()
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    return next((name for name in found if name not in ours), None)


def _take_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(old)
    partial.rename(out)
    shutil.rmtree(old)


def sha256(path: Path) -> str:
    """Return a file's sha256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

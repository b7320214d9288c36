"""The page's file and its pictures: never over something that is not the same study's."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqtune.errors import ConfigError
from sqtune.report.charts import Chart
from sqtune.report.page import GENERATOR
from sqtune.report.render import png

STUDY = "sqtune study"  # keyword of a picture's text that has the study's uuid
PNG_HEADER = 33  # bytes: the signature and the first chunk, which has width and height
LOOKED_AT = 4096  # bytes at a file's beginning, where page and picture say whose they are


def refuse_taken(out: Path, study: str, *, force: bool) -> None:
    """Refuse a place that is taken, or that cannot be written, before any work.

    A page of the same study may be replaced.

    Args:
        out: The page's place.
        study: The study's uuid.
        force: Whether another study's page may be replaced, too.

    Raises:
        ConfigError: Something is there that may not be replaced, or nothing can be written there.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder. Give a file in it: {out / 'report.html'}.")
    if out.exists() or out.is_symlink():
        beginning = _beginning(out)
        if f'content="{GENERATOR} '.encode() not in beginning:
            raise ConfigError(
                f"--out {out}: exists and is no page of sqtune report, so it is not replaced, even "
                "with --force. Give another path."
            )
        if not force and f'content="{study}"'.encode() not in beginning:
            raise ConfigError(
                f"--out {out}: exists and is no page of this study. Give another path, or --force "
                "to replace that page."
            )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out}: its folder cannot be written. Give another path.")


def has_pictures_of(study: str, folder: Path) -> bool:
    """Tell whether a folder holds pictures of a study and nothing else.

    Args:
        study: The study's uuid.
        folder: Perhaps not there.
    """
    there = list(folder.iterdir()) if folder.is_dir() else []
    return bool(there) and all(_mark(study) in _beginning(each) for each in there)


def write(out: Path, text: str) -> None:
    """Write a page.

    Raises:
        ConfigError: It cannot be written there.
    """
    _write_whole(out, text.encode(), "--out")


def write_pictures(folder: Path, charts: Sequence[Chart], study: str) -> list[Path]:
    """Write each chart as a PNG into a folder, in place of earlier ones; return the files.

    Args:
        folder: A new one, or of which `has_pictures_of` the study is true.
        charts: In their order.
        study: The study's uuid, which stands in each picture.

    Raises:
        ConfigError: They cannot be written there.
    """
    written = []
    for number, chart in enumerate(charts, 1):
        picture = folder / f"{number:02d}-{chart.key}.png"
        _write_whole(picture, _marked(png(chart), study), "--png")
        written.append(picture)
    if written:
        for other in set(folder.iterdir()) - set(written):  # charts that the study has no more
            if _mark(study) in _beginning(other):
                other.unlink(missing_ok=True)
    return written


def _write_whole(path: Path, content: bytes, option: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):  # a folder that could not be made
            partial.unlink(missing_ok=True)
        raise _unwritable(path, error, option) from None


def _mark(study: str) -> bytes:
    return f"{STUDY}\0{study}".encode()


def _marked(picture: bytes, study: str) -> bytes:
    """Return a PNG with a text that says whose it is, as its second chunk."""
    chunk = b"tEXt" + _mark(study)
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return picture[:PNG_HEADER] + length + chunk + check + picture[PNG_HEADER:]


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LOOKED_AT)
    except OSError:
        return b""


def _unwritable(out: Path, error: OSError, option: str = "--out") -> ConfigError:
    return ConfigError(
        f"{option} {out}: cannot be written: {error.strerror or error}. Give another path."
    )

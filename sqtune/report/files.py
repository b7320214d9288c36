"""The page's file: written as a whole or not at all, and never over something that is not ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sqtune.errors import ConfigError
from sqtune.report.charts import Chart
from sqtune.report.page import GENERATOR
from sqtune.report.render import png

LOOKED_AT = 4096  # bytes at a file's beginning, where a page says who wrote it


def refuse_taken(out: Path, *, force: bool) -> None:
    """Refuse a place that is taken, or that cannot be written, before any work.

    Raises:
        ConfigError: Something is there that may not be replaced, or nothing can be written there.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder. Give a file in it: {out / 'report.html'}.")
    if out.exists() or out.is_symlink():
        if not _is_ours(out):
            raise ConfigError(
                f"--out {out}: exists and is no page of sqtune report, so it is not replaced, even "
                "with --force. Give another path."
            )
        if not force:
            raise ConfigError(
                f"--out {out}: exists. Give another path, or --force to replace that page."
            )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out}: its folder cannot be written. Give another path.")


def write(out: Path, text: str) -> None:
    """Write a page.

    Raises:
        ConfigError: It cannot be written there.
    """
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _unwritable(out, error) from None


def write_pictures(folder: Path, charts: Sequence[Chart]) -> list[Path]:
    """Write each chart as a PNG into a new folder; return the files.

    Raises:
        ConfigError: They cannot be written there.
    """
    written = []
    for number, chart in enumerate(charts, 1):
        picture = folder / f"{number:02d}-{chart.key}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(png(chart))
        except OSError as error:
            raise _unwritable(picture, error, "--png") from None
        written.append(picture)
    return written


def _is_ours(out: Path) -> bool:
    try:
        with out.open("rb") as file:
            return f'content="{GENERATOR} '.encode() in file.read(LOOKED_AT)
    except OSError:
        return False


def _unwritable(out: Path, error: OSError, option: str = "--out") -> ConfigError:
    return ConfigError(
        f"{option} {out}: cannot be written: {error.strerror or error}. Give another path."
    )

"""What to type next: printed for people behind what a command prints, never with --json."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sqtune.settings import without_password

if TYPE_CHECKING:
    from rich.console import Console

ACTIVATE = {"fish": "activate.fish", "csh": "activate.csh", "tcsh": "activate.csh"}
LABEL = "next      "


def typed(*names: str) -> str:
    """Return those of these options that were typed for this command, to be typed for the next.

    What an environment variable or the settings file says holds for the next one anyway.
    """
    context: click.Context | None = click.get_current_context()
    values: dict[str, str] = {}
    while context is not None:
        for name in names:
            if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
                value = context.params[name]  # None: of --address alone, which was "local"
                values.setdefault(name, "local" if value is None else value)
        context = context.parent  # options of sqtune store may stand before the word prune
    return as_options({name: values.get(name) for name in names})


def as_options(values: Mapping[str, str | None]) -> str:
    """Return options to be typed, without passwords; those of None are left out.

    >>> as_options({"store": "my store", "study_storage": None})
    " --store 'my store'"
    """
    return "".join(
        f" --{name.replace('_', '-')} {shlex.quote(without_password(value))}"
        for name, value in values.items()
        if value is not None
    )


def space_typed(space_file: Path, overrides: Sequence[str]) -> str:
    """Return --space and --set, to be typed again."""
    words = ["--space", str(space_file)]
    for override in overrides:
        words += ["--set", override]
    return f" {shlex.join(words)}"


def deployed() -> str:
    """Return --out with a folder that is not there yet: deployed, deployed-2, ..."""
    number, folder = 1, Path("deployed")
    while folder.exists() or folder.is_symlink():
        number += 1
        folder = Path(f"deployed-{number}")
    return f" --out {folder}"


def after_export(folder: Path, form: str) -> dict[str, str]:
    """Return what to type once an exported folder is whole."""
    if form == "c":
        readme = shlex.quote(str(folder / "README.md"))
        return {f"cat {readme}": "how to compile and call it"}
    at = shlex.quote(str(folder))
    return {f"sqtune predict {at} IMAGE.png": "class names and probabilities of an image"}


def say_next(out: Console, steps: Mapping[str, str]) -> None:
    """Print commands, each with what it is for; below it, where both do not fit on a line."""
    from rich.cells import cell_len
    from rich.text import Text

    steps = {**_to_the_path(), **steps}
    width = max(map(cell_len, steps)) + 3  # columns: some letters take two
    fits = len(LABEL) + width + max(map(cell_len, steps.values())) <= out.width
    for number, (command, what) in enumerate(steps.items()):
        line = Text(" " * len(LABEL) if number else LABEL)
        gap = " " * (width - cell_len(command)) if fits else f"\n{' ' * (len(LABEL) + 2)}"
        line.append(command + gap).append(what, style="dim")
        out.print(line, soft_wrap=True)


def _to_the_path() -> dict[str, str]:
    """Return what makes a shell know `sqtune`, where it does not know this one."""
    binaries = Path(sys.prefix, "bin")
    script, known = binaries / "activate", shutil.which("sqtune")
    own = binaries / "sqtune"
    if not script.exists() or (known is not None and Path(known).resolve() == own.resolve()):
        return {}
    script = binaries / ACTIVATE.get(Path(os.environ.get("SHELL", "")).name, "activate")
    here = Path.cwd()
    place = script.relative_to(here) if script.is_relative_to(here) else script
    return {f"source {shlex.quote(str(place))}": "first: this shell then knows sqtune"}

"""The space files that come with sqtune: to begin with, and the paper's own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

BEGIN = "sqtune new my-space.yaml"
IN_A_CHECKOUT = "search_spaces"
_OF_EDITORS = re.compile(r"\A# yaml-language-server:.*\n#\n")  # names a schema beside the file
_FIRST_WORDS = re.compile(r"\A# (.*?)(?:(?<=\?)|[.:])(?=\s)", re.DOTALL)


def spaces() -> dict[str, Path]:
    """Return the space files by name, those of a folder (`paper/cifar10_vgg9`) last."""
    package = Path(__file__).resolve().parent
    within = package / "_spaces"  # as pyproject.toml has it put into what is installed
    root = within if within.is_dir() else package.parent / IN_A_CHECKOUT
    files = {path.relative_to(root).with_suffix(""): path for path in root.rglob("*.yaml")}
    ordered = sorted(files, key=lambda name: (len(name.parts), name))
    return {name.as_posix(): files[name] for name in ordered}


def about(name: str) -> str:
    """Return what a space file's first comment calls it."""
    found = _FIRST_WORDS.search(_text(name))
    assert found is not None, name
    return found[1].replace("\n# ", " ")


def text_for(name: str, file: Path) -> str:
    """Return the text of a space file, whose comments call it by the path of the new one."""
    own = f"{IN_A_CHECKOUT}/{name}.yaml"
    return _text(name).replace(own, shlex.quote(str(file)))


def _text(name: str) -> str:
    return _OF_EDITORS.sub("", spaces()[name].read_text(encoding="utf-8"))

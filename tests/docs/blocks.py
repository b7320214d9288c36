"""The code blocks of a Markdown document, and a reader who runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("cluster/*.md"))
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(document: str, *languages: str) -> list[tuple[str, str]]:
    """Return language and text of a document's blocks, in order.

    Args:
        document: Its path from the project's root.
        languages: Those wanted; "" is a block that names none.
    """
    text = (ROOT / document).read_text(encoding="utf-8")
    return [(kind, code) for kind, code in _BLOCK.findall(text) if kind in languages]


def commands(document: str) -> list[str]:
    """Return what a document's blocks, indented ones included, call sqtune with."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [code for _, code in blocks(document, "", "bash")]
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    return commands_in("\n".join(lines))


def commands_in(text: str) -> list[str]:
    """Return the lines of a block that call sqtune.

    Two spaces end a command: what follows says what it is for.
    """
    joined = re.sub(r"\\\n\s*", "", text)
    calls = (line.strip().partition("  ")[0] for line in joined.splitlines())
    return [line for line in calls if line.startswith("sqtune ")]


def run(kind: str, text: str, folder: Path) -> str:
    """Run a block of Python or bash in a folder; return what it printed.

    Raises:
        AssertionError: It failed.
    """
    command = (
        [sys.executable, "-c", text]
        if kind == "python"
        else ["bash", "-euo", "pipefail", "-c", text]
    )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout

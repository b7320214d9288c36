"""The code blocks of a Markdown document."""

from __future__ import annotations

import re
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
    """Return what a document's blocks, indented ones included, call sqtune with.

    Two spaces end a command: what follows says what it is for.
    """
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [line.strip() for _, code in blocks(document, "", "bash") for line in code.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    joined = "\n".join(lines).replace("\\\n", " ")
    calls = (line.partition("  ")[0] for line in joined.splitlines())
    return [line for line in calls if line.startswith("sqtune ")]

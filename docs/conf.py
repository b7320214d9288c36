"""The site: `make docs` builds it from these Markdown files with Sphinx."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

project = "sqtune"
author = "the authors of sqtune"
extensions = [
    "myst_parser",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "sqtune"
html_show_sphinx = html_show_copyright = False
highlight_language = "none"  # of blocks that name none
pygments_style, pygments_dark_style = "friendly", "monokai"

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^):#\s]+)(#[^)\s]*)?\)")


def with_links_of_the_site(app: Any, name: str, source: list[str]) -> None:
    """Turn links that lead out of docs/ into downloads of files, and of folders into their names.

    In the repository they lead to the file or folder; the site has neither.
    """
    base = DOCS
    if name == "cluster":
        base = DOCS.parent / "cluster"
        source[0] = (base / "README.md").read_text(encoding="utf-8")

    def replace(match: re.Match[str]) -> str:
        text, target, anchor = match.group(1), (base / match.group(2)).resolve(), match.group(3)
        if not target.exists():
            return match.group(0)  # Sphinx says so
        if target.is_relative_to(DOCS):
            return f"[{text}]({target.relative_to(DOCS)}{anchor or ''})"
        if target.is_dir() or target.suffix == ".md":
            path = target.relative_to(DOCS.parent).as_posix()
            return text if path in text else f"{text} (`{path}`)"
        return f"[{text}](../{target.relative_to(DOCS.parent)})"

    source[0] = LINK.sub(replace, source[0])


def setup(app: Any) -> None:
    """Register what stands above (Sphinx calls this)."""
    app.connect("source-read", with_links_of_the_site)

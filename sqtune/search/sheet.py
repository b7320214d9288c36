"""What lines are drawn on in a terminal: its size, its characters, text cut to fit."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

WIDE = 60  # columns from which on labels and gaps are as in all other tables


@dataclass(frozen=True, slots=True)
class Sheet:
    """What lines are drawn on.

    Attributes:
        width: Columns.
        height: Lines.
        encoding: Of the terminal; one that is not UTF-8 gets ASCII.
    """

    width: int
    height: int
    encoding: str = "utf-8"

    @property
    def ascii_only(self) -> bool:
        """Whether lines are drawn with ASCII."""
        return not self.encoding.lower().startswith("utf")

    @property
    def gap(self) -> int:
        """Columns between two cells."""
        return 2 if self.width >= WIDE else 1

    def line(self, label: str, text: str, style: str = "") -> Text:
        """Return a line with a label before it, cut to the width."""
        label = self.cut(f"{label:<{10 if self.width >= WIDE else 8}}", self.width)
        return Text().append(label, "dim").append(self.cut(text, self.width - len(label)), style)

    def cut(self, text: str, width: int) -> str:
        """Return text as it can be shown, no wider than so many columns."""
        text = "".join(letter if letter.isprintable() else " " for letter in text)
        if self.ascii_only:
            text = text.replace("±", "+-")
        text = text.encode(self.encoding, "replace").decode(self.encoding)
        if cell_len(text) <= width:
            return text
        end = "..." if self.ascii_only else "…"
        if width <= len(end):
            return end[: max(0, width)]
        return set_cell_size(text, width - len(end)).rstrip() + end

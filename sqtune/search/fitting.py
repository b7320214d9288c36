"""Tables that fit a terminal: no line of them wraps, and what has no room is left out whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

FEWEST = 16  # columns of a terminal, for words that may be cut
EDGES, GAP = 2, 2  # of box.SIMPLE_HEAD


class Column(Protocol):
    """A table's column: its name, how it is aligned, and whether what is in it is short."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def justify(self) -> Literal["left", "right"]: ...  # noqa: D102
    @property
    def no_wrap(self) -> bool: ...  # noqa: D102


def laid_out(
    columns: Sequence[Column], rows: Sequence[Sequence[Text | str]], width: int | None
) -> tuple[Table, list[str]]:
    """Return a table with columns and without rows yet, and the names of the columns it has not.

    Args:
        columns: That are wanted; the last ones are left out first.
        rows: What is to stand in them.
        width: Of the terminal; None has all columns, and words that wrap.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    if width is None:
        for column in columns:
            table.add_column(column.name, justify=column.justify, no_wrap=column.no_wrap)
        return table, []
    cells = [[column.name for column in columns], *rows]
    needed = [max(cell_len(str(row[i])) for row in cells) for i in range(len(columns))]
    widths = fitting(needed, [not column.no_wrap for column in columns], width - EDGES)
    for column, most in zip(columns, widths, strict=False):
        table.add_column(column.name, justify=column.justify, no_wrap=True, max_width=most)
    return table, [column.name for column in columns[len(widths) :]]


def fitting(widths: Sequence[int], may_be_cut: Sequence[bool], room: int) -> list[int]:
    """Return how wide the first columns of a table are that fit, as many as do; at least one.

    Those that may be cut give way first, the widest most, until `FEWEST`; then the last go.

    Args:
        widths: What they need.
        may_be_cut: Whether they may be cut.
        room: Columns of the terminal.

    >>> fitting([5, 9, 30], [False, False, True], 40), fitting([5, 9, 30], [False] * 3, 40)
    ([5, 9, 22], [5, 9])
    """
    for num in range(len(widths), 1, -1):
        shown = list(widths[:num])
        cut = [i for i in range(num) if may_be_cut[i]]
        excess = sum(shown) + GAP * (num - 1) - room
        while excess > 0 and any(shown[i] > FEWEST for i in cut):
            widest = max((shown[i], i) for i in cut)[1]
            shown[widest] -= 1
            excess -= 1
        if excess <= 0:
            return shown
    return [min(widths[0], room)]

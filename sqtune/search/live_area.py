"""Lines at a terminal's end that are drawn again and again in place, without flicker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text


class LiveArea:
    """Lines at the end of a terminal.

    What others print meanwhile appears above them. Lines are written over those before, none is
    erased first. A terminal that changes its size is cleared: what it did to lines that no longer
    fit, nobody knows.

    Args:
        console: Of the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._size = self.size
        self._widths: list[int] = []
        self._live = _Overwriting(console=console, auto_refresh=False, transient=True)
        self._live.start()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines there are: COLUMNS and LINES may be those of another terminal."""
        width, height = self._console.size
        with suppress(OSError, ValueError):  # what only pretends to be a terminal
            real = os.get_terminal_size(self._console.file.fileno())
            return min(width, real.columns), min(height, real.lines)
        return width, height

    def draw(self, lines: Sequence[Text]) -> None:
        """Draw lines that fit the terminal, in place of those before."""
        if self._size != self.size:
            self._size, self._widths = self.size, []
            self._live.clear()
        lines = [*lines, *[Text()] * (len(self._widths) - len(lines))]
        before = self._widths + [0] * len(lines)
        self._widths = [cell_len(line.plain) for line in lines]
        padded = [
            Text.assemble(line, " " * max(0, wide - own), no_wrap=True, overflow="crop")
            for line, own, wide in zip(lines, self._widths, before, strict=False)
        ]
        self._live.update(Group(*padded), refresh=True)

    def close(self) -> None:
        """Take the lines away."""
        self._live.stop()


class _Overwriting(Live):
    """Live, but where only its own lines are drawn anew, nothing is erased before."""

    _cleared = False

    def clear(self) -> None:
        """Clear the terminal before lines are drawn again."""
        self._cleared = True

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is written to the terminal."""
        height = self._live_render.last_render_height
        if self._cleared:
            start = Control(ControlType.CLEAR, ControlType.HOME)
        elif height and all(isinstance(one, Control) for one in renderables):
            up = [(ControlType.CURSOR_UP, height - 1)] if height > 1 else []
            start = Control(ControlType.CARRIAGE_RETURN, *up)
        else:
            start = self._live_render.position_cursor()
        self._cleared = False
        back = Control(ControlType.CARRIAGE_RETURN)  # the terminal's "^C" is drawn over
        return [start, *renderables, self._live_render, back]

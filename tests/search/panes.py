"""Real terminals: panes of a tmux server of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MARK = "= the same again ="
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Panes:
    """A tmux server.

    Args:
        folder: Where its socket lies.
    """

    def __init__(self, folder: Path) -> None:
        self._command = ("tmux", "-u", "-S", str(folder / "tmux"), "-f", os.devnull)

    def open(self, name: str, command: str, width: int, height: int) -> None:
        """Run a command of the shell in a pane of this size, which stays when it has ended."""
        size = ("-x", str(width), "-y", str(height))
        self._do("new-session", "-d", "-s", name, *size, f"{command}; echo; echo ended; sleep 600")

    def resize(self, name: str, width: int, height: int) -> None:
        """Give a pane another size."""
        self._do("resize-window", "-t", name, "-x", str(width), "-y", str(height))

    def lines(self, name: str, *, scrolled: bool = False) -> list[str]:
        """Return what a pane shows, as the terminal has it, and what has scrolled out of it."""
        start = ("-S", "-") if scrolled else ()
        return [line.rstrip() for line in self._do("capture-pane", "-p", "-t", name, *start)]

    def look(self, name: str) -> tuple[list[str], list[str]]:
        """Return what a pane shows, and the same with lines whole that the terminal wrapped."""
        capture = ("capture-pane", "-p", "-t", name)
        answer = self._do(*capture, ";", "display-message", "-p", MARK, ";", *capture, "-J")
        shown = [line.rstrip() for line in answer]
        at = shown.index(MARK)
        return shown[:at], shown[at + 1 :]

    def wait(self, name: str, until: Callable[[list[str]], bool], seconds: float = 60.0) -> None:
        """Wait until a pane shows something."""
        deadline = time.monotonic() + seconds
        while not until(shown := self.lines(name)):
            assert time.monotonic() < deadline, "\n".join(shown)
            time.sleep(0.02)

    def close(self) -> None:
        """End the server and what runs in it."""
        subprocess.run([*self._command, "kill-server"], check=False, capture_output=True)

    def _do(self, *command: str) -> list[str]:
        env = {**os.environ}
        for name in ("LINES", "COLUMNS"):  # which readline exports, before or behind os.environ
            env.pop(name, None)
        done = subprocess.run([*self._command, *command], check=True, capture_output=True, env=env)
        return done.stdout.decode().splitlines()


def has_ended(lines: list[str]) -> bool:
    return "ended" in lines

"""Draw docs/pictures/live-view.svg: the live view of a search, in the middle of it.

    python docs/make_live_view.py

The search is real (digits, some minutes on two cores); nothing but the moment is chosen.
"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

from rich.console import Console

from sqtune.config import load_space
from sqtune.search.outcome import Places
from sqtune.search.progress import Progress
from sqtune.search.run import run_search
from sqtune.search.sheet import Sheet
from sqtune.store import Store

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "live-view.svg"
SPACE = "search_spaces/resnet.yaml"
WIDTH, HEIGHT = 100, 30
MOMENT = 0.75  # of the trials have ended
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


class Pictured(Progress):
    """Keeps the view of one moment."""

    def tick(self) -> None:
        """Look whether it has come."""
        super().tick()
        tally = self._tally
        running = [one.epoch for one in tally.running]
        has_come = tally.num_ended >= MOMENT * tally.target and len(running) > 1
        if has_come and min(running) > 2 and not PICTURE.exists():
            self._keep()

    def _keep(self) -> None:
        out = io.StringIO()
        console = Console(
            record=True, width=WIDTH, file=out, force_terminal=True, color_system="truecolor"
        )
        for line in self.view(Sheet(WIDTH, HEIGHT)):
            console.print(line)
        svg = console.export_svg(title=f"sqtune search --space {SPACE}")
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # they are on the network
        PICTURE.write_text(svg.replace("Fira Code, monospace", FONTS), encoding="utf-8")


def main() -> None:
    """Search, and draw."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.unlink(missing_ok=True)
    text = (ROOT / SPACE).read_text(encoding="utf-8")
    space = load_space(ROOT / SPACE)
    with tempfile.TemporaryDirectory() as folder:
        run_search(space, text, Places(Store.at(folder)), Pictured(Console()))
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

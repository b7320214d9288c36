"""The trials that are being trained, as rows that fit a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import set_cell_size
from rich.text import Text

from sqtune.search.sheet import Sheet
from sqtune.search.tables import bits_text, quantizer_text, schedule_text
from sqtune.search.tally import Begun, Tally
from sqtune.search.wording import duration, percent

FEWEST_COLUMNS, MOST_COLUMNS = 12, 28  # for a quantizer; a schedule has what is left
UNKNOWN = "-"
MIB = 2**20


WIDTHS = {  # at least: rows stay where they are while figures grow
    "trial": 5,
    "epoch": 5,
    "stage": 5,
    "ratio": 5,
    "error %": 7,
    "time": 5,
    "memory": 9,
    "GPU memory": 10,
}
WANTED = ("trial", "epoch", "error %", "ratio", "time", "stage", "memory", "GPU memory")
ONLY_IF_TOLD = {"memory": "resident_bytes", "GPU memory": "gpu_bytes"}


def running_table(tally: Tally, sheet: Sheet, now: float) -> list[Text]:
    """Return a header and a line for each slot, cut to the sheet's width.

    Args:
        tally: What has happened.
        sheet: What it is drawn on.
        now: The time, on the tally's clock.
    """
    begun = list(tally.running)
    figures = {one.trial.number: _figures(one, now) for one in begun}
    widths: dict[str, int] = {}
    for name in WANTED:
        column = [row[name] for row in figures.values()]
        if name in ONLY_IF_TOLD and ONLY_IF_TOLD[name] not in tally.told:
            continue
        width = max([WIDTHS[name], *map(len, column)])
        if sum(widths.values()) + width + sheet.gap * len(widths) > sheet.width:
            break
        widths[name] = width
    space = " " * sheet.gap

    def line(cells: Mapping[str, str]) -> str:
        return space.join(f"{cells[name]:>{widths[name]}}" for name in WIDTHS if name in widths)

    words = _Words(sheet, sum(widths.values()) + sheet.gap * len(widths))
    header = line({name: name for name in WIDTHS}) + words.header()
    lines = [Text(sheet.cut(header, sheet.width), "dim")]
    for one in tally.slots:
        if one is None:
            lines.append(Text(sheet.cut(f"{UNKNOWN:>5}{space}idle", sheet.width), "dim"))
        else:
            row = line(figures[one.trial.number]) + words.of(one)
            lines.append(Text(sheet.cut(row, sheet.width)))
    return lines


def _figures(begun: Begun, now: float) -> dict[str, str]:
    """Return what a trial has in each column."""
    taken = {key: f"{size / MIB:,.0f}" for key, size in begun.taken.items()}
    gpu = "gpu_bytes" in taken and "gpu_total_bytes" in taken
    return {
        "trial": str(begun.trial.number),
        "epoch": f"{begun.epoch}/{begun.num_epochs}",
        "stage": f"{begun.stage}/{len(begun.stage_ends)}",
        "ratio": UNKNOWN if begun.ratio is None else f"{begun.ratio:.3f}",
        "error %": UNKNOWN if begun.val_error is None else percent(begun.val_error),
        "time": duration(max(0.0, now - begun.since)),
        "memory": f"{taken['resident_bytes']} MiB" if "resident_bytes" in taken else UNKNOWN,
        "GPU memory": f"{taken['gpu_bytes']}/{taken['gpu_total_bytes']} MiB" if gpu else UNKNOWN,
    }


class _Words:
    """Quantizers and schedules, in what room the figures leave.

    Args:
        sheet: What it is drawn on.
        start: The column where they begin.
    """

    def __init__(self, sheet: Sheet, start: int) -> None:
        self._sheet = sheet
        room = sheet.width - start
        both = room >= 2 * FEWEST_COLUMNS + sheet.gap
        most = min(MOST_COLUMNS, room - FEWEST_COLUMNS - sheet.gap) if both else room
        self._first = most if room >= FEWEST_COLUMNS else 0
        self._second = room - self._first - sheet.gap if both else 0

    def header(self) -> str:
        """Return what stands above them."""
        return self._joined("quantizer", "ratio schedule")

    def of(self, begun: Begun) -> str:
        """Return a trial's."""
        return self._joined(_quantizer(begun), schedule_text(begun.trial.config))

    def _joined(self, quantizer: str, schedule: str) -> str:
        text, space = "", " " * self._sheet.gap
        if self._first:
            text = space + set_cell_size(self._sheet.cut(quantizer, self._first), self._first)
        if self._second:
            text += space + self._sheet.cut(schedule, self._second)
        return text.rstrip()


def _quantizer(begun: Begun) -> str:
    return f"{quantizer_text(begun.trial.config)} {bits_text(begun.trial)}"

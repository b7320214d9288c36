"""How a running search is drawn: lines that fit the terminal.

Where there is little room, parts are left out in this order: running trials from the fifth on, the
chart, all notes but the last, the epochs, running trials from the second on, the best, the table,
the last note, the time. Of a running trial: the schedule, the quantizer, memory, the stage, the
time, the ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from sqtune.search.running_table import running_table
from sqtune.search.sheet import Sheet
from sqtune.search.tables import trial_line
from sqtune.search.tally import Tally
from sqtune.search.terminal_chart import FEWEST_COLUMNS, FEWEST_ROWS, Series, scatter
from sqtune.search.time_left import rounded
from sqtune.search.wording import duration

FEW_TRIALS = 4  # running ones that come before the chart
MOST_NOTES = 3
CHART_ROWS, MORE_CHART_ROWS, CHART_COLUMNS = 12, 8, 100  # at most; the second where all else fits
BLANKS = 2  # around the chart


@dataclass(frozen=True, slots=True)
class Clock:
    """When things began and end, on the tally's clock.

    Attributes:
        now: The time.
        began: When the search began; None if nobody knows.
        deadline: When its time limit ends it.
    """

    now: float
    began: float | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Notes:
    """What has been said.

    Attributes:
        texts: The last ones, in order.
        trouble: What is wrong just now.
    """

    texts: Sequence[str] = ()
    trouble: str | None = None


def draw(tally: Tally, sheet: Sheet, clock: Clock, notes: Notes = Notes()) -> list[Text]:
    """Return the lines of a view: no more than the sheet has, none wider."""
    room = _Room(sheet.height)
    noted = _note_lines(notes, sheet)
    table = running_table(tally, sheet, clock.now) if tally.slots else []
    trials = room.take([_trials_line(tally, sheet)])
    time = room.take([_time_line(tally, sheet, clock)])
    last_note = room.take(noted[-1:])
    num_rows = len(room.take(table[:2]))
    best = room.take([_best_line(tally, sheet)])
    num_rows += room.take_some(min(FEW_TRIALS - 1, len(table) - num_rows))
    epochs = room.take(_epochs_line(tally, sheet))
    earlier = room.take_last(noted[:-1])
    chart_rows = 0
    if tally.front and sheet.width >= FEWEST_COLUMNS:
        chart_rows = room.take_some(CHART_ROWS + BLANKS, at_least=FEWEST_ROWS + BLANKS)
    num_rows += room.take_some(len(table) - num_rows)
    chart = []
    if chart_rows:
        chart_rows += room.take_some(MORE_CHART_ROWS)
        chart = _chart(tally, sheet, chart_rows - BLANKS)
    if 2 < num_rows < len(table):
        more = len(table) - num_rows + 1
        table[num_rows - 1] = Text(sheet.cut(f"and {more} more", sheet.width), "dim")
    parts = (trials, time, epochs, best, chart, table[:num_rows], earlier, last_note)
    return [line for part in parts for line in part]


class _Room:
    """Lines that are left. Who is wanted most asks first."""

    def __init__(self, lines: int) -> None:
        self._left = max(0, lines)

    def take(self, lines: Sequence[Text]) -> Sequence[Text]:
        """Return lines if there is room for all; where there is not, nothing else gets any."""
        if len(lines) > self._left:
            self._left, lines = 0, ()
        self._left -= len(lines)
        return lines

    def take_last(self, lines: Sequence[Text]) -> Sequence[Text]:
        """Return the last ones for which there is room."""
        num = self.take_some(len(lines))
        return lines[len(lines) - num :]

    def take_some(self, num: int, *, at_least: int = 0) -> int:
        """Return for how many of so many lines there is room; 0 where for fewer than at least."""
        num = min(num, self._left)
        num = 0 if num < at_least else num
        self._left -= num
        return num


def _trials_line(tally: Tally, sheet: Sheet) -> Text:
    counts = tally.counts
    running = sum(1 for _ in tally.running)
    others = (
        (counts["failed"], "failed"),
        (running, "running"),
        (len(tally.held), "held"),
        (counts["stopped"], "stopped early"),
        (counts["refused"], "refused"),
        (counts["repeated"], "repeated"),
    )
    shown = "".join(f", {count:,} {word}" for count, word in others if count)
    return sheet.line("trials", f"{tally.num_ended:,} of {tally.target:,} ended{shown}", "bold")


def _time_line(tally: Tally, sheet: Sheet, clock: Clock) -> Text:
    left = tally.seconds_left(clock.now)
    text = "time left unknown" if left is None else f"about {duration(rounded(left))} left"
    if clock.deadline is not None and (left is None or clock.now + left > clock.deadline):
        limit = max(0.0, clock.deadline - clock.now)
        text = f"{duration(limit)} left until the time limit"
    if clock.began is not None:
        text = f"{duration(clock.now - clock.began)} so far, {text}"
    return sheet.line("time", text)


def _epochs_line(tally: Tally, sheet: Sheet) -> list[Text]:
    trained, shared, not_begun = tally.trained, tally.shared, tally.not_begun
    saved = shared + not_begun
    text = f"{trained:,} trained"
    if saved:
        percent = 100 * saved / (trained + saved)
        text += f", {percent:.0f} % saved: {shared:,} shared, {not_begun:,} not begun"
    return [sheet.line("epochs", text)] if trained or saved else []


def _best_line(tally: Tally, sheet: Sheet) -> Text:
    best = tally.best
    return sheet.line("best", trial_line(best) if best else "no trial has finished yet")


def _note_lines(notes: Notes, sheet: Sheet) -> list[Text]:
    """Return the last notes; what is wrong just now is the last of them."""
    lines = [sheet.line("note", text, "yellow") for text in notes.texts]
    if notes.trouble is not None:
        lines.append(sheet.line("warning", notes.trouble, "bold yellow"))
    return lines[-MOST_NOTES:]


def _chart(tally: Tally, sheet: Sheet, height: int) -> list[Text]:
    """Return error against size of the trials that have finished, between blank lines."""
    others = [(size / 1024, 100 * error) for error, size in tally.others]
    best, *front = [
        (one.size_bytes / 1024, 100 * one.val_error)
        for one in tally.front
        if one.size_bytes is not None and one.val_error is not None
    ]
    lines = scatter(
        [
            Series("others", ("·", "."), "", others),
            Series("front", ("●", "o"), "cyan", front),
            Series("best", ("◆", "@"), "bold green", [best]),
        ],
        width=min(sheet.width, CHART_COLUMNS),
        height=height,
        x_name="KiB",
        y_name="error %",
        ascii_only=sheet.ascii_only,
    )
    return [Text(), *lines, Text()]

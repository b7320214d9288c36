"""Tables of trials in terminals of any width: a line for each trial, whole columns or none."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sqtune.search.fitting import FEWEST, GAP, fitting
from sqtune.search.tables import trials_table

from .seen import failed, in_letters, trial

TRIALS = [trial(number, "finished", 0.1 + number / 100) for number in range(5)]


def lines_of(trials, width: int, table_width: int | None) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True).print(
        trials_table(trials, width=table_width)
    )
    return [Text.from_ansi(line).plain for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_each_trial_is_one_line(width):
    trials = [*TRIALS, failed(7), in_letters(8)]
    lines = lines_of(trials, width, width)
    assert all(cell_len(line) <= width for line in lines)
    rows = [line for line in lines if line[:6].strip().isdigit()]
    assert len(rows) == len(trials)
    if width >= 40:
        assert not any("…" in row for row in rows[:5])


def test_columns_that_have_no_room_are_named():
    assert lines_of(TRIALS, 80, 80)[-1].strip() == "in a wider terminal also: selection, lr"
    narrow = " ".join(line.strip() for line in lines_of(TRIALS, 40, 40)[-2:])
    assert narrow == "in a wider terminal also: quantizer, ratio schedule, selection, lr"
    assert not any("wider" in line for line in lines_of(TRIALS, 200, 200))


def test_where_no_terminal_is_all_columns_are_there():
    header = next(line for line in lines_of(TRIALS, 120, None) if "error %" in line)
    assert header.split()[-2:] == ["selection", "lr"]


def test_words_give_way_before_columns_do():
    widths, words = [5, 13, 40, 30], [False, False, True, True]
    assert fitting(widths, words, 200) == widths
    for room in range(18 + 2 * FEWEST + 3 * GAP, sum(widths) + 3 * GAP):
        fitted = fitting(widths, words, room)
        assert fitted[:2] == [5, 13]
        assert sum(fitted) + 3 * GAP == room
        assert min(fitted[2:]) >= FEWEST
    assert len(fitting(widths, words, 18 + 2 * FEWEST + 3 * GAP - 1)) == 3
    assert fitting(widths, words, 4) == [4]

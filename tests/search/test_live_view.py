"""The live view as rich renders it: every width and height, and whatever has happened."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sqtune.search.live_view import MOST_NOTES, Clock, Notes, draw
from sqtune.search.sheet import Sheet
from sqtune.search.tally import Tally

from .seen import after, epoch, failed, in_letters, train, trial

WIDTHS = (20, 40, 80, 200)
HEIGHTS = (1, 4, 9, 23, 60)
MIB = 2**20
NO_NOTES = Notes()
LONG = "trial   3  out of memory with 0.25 of a GPU; it goes on with 0.5, as 層 の 名前 does " * 3


def many_running() -> Tally:
    tally = after(20, target=500)
    for number in range(20, 84):
        train(tally, number, number % 8, 0.0, resident_bytes=1500 * MIB)
    return tally


def in_wide_letters() -> Tally:
    tally = after(3)
    for number in (4, 5):
        tally.trial_started(in_letters(number), 0.0)
    return tally


def on_gpus() -> Tally:
    tally = after(3)
    for number in (4, 5):
        taken = {"resident_bytes": 2200, "gpu_bytes": 3000, "gpu_total_bytes": 16_000}
        train(tally, number, 3, 0.0, **{key: size * MIB for key, size in taken.items()})
    return tally


def started() -> Tally:
    tally = Tally(24)
    tally.trial_started(trial(0), 0.0)
    return tally


HAPPENED = {
    "nothing": lambda: Tally(24),
    "started": started,
    "one trial": lambda: after(1),
    "only failed": lambda: after(0, 5),
    "some": lambda: after(12, 1),
    "a thousand": lambda: after(1000, 20, target=2000),
    "many running": many_running,
    "wide letters": in_wide_letters,
    "GPUs": on_gpus,
}


def rendered(tally: Tally, width: int, height: int, notes: Notes = NO_NOTES) -> list[str]:
    """Return the lines that rich writes to a terminal of this size, without escape sequences."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True)
    for line in draw(tally, Sheet(width, height), Clock(30.0, began=-60.0), notes):
        console.print(line)
    return [Text.from_ansi(line).plain for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("happened", HAPPENED)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", HEIGHTS)
def test_every_line_fits_and_there_are_no_more_than_fit(happened, width, height):
    notes = Notes((LONG, "short", LONG), trouble="MLflow: no answer for 12 s")
    tally = HAPPENED[happened]()
    lines = draw(tally, Sheet(width, height), Clock(30.0, began=-60.0), notes)
    assert len(lines) <= height
    assert all(cell_len(line.plain) <= width for line in lines)
    assert rendered(tally, width, height, notes) == [line.plain for line in lines]
    assert lines[0].plain.startswith("trials")


@pytest.mark.parametrize("happened", HAPPENED)
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_another_encoding_than_utf_8_has_every_letter(happened, encoding):
    sheet = Sheet(80, 40, encoding)
    for line in draw(HAPPENED[happened](), sheet, Clock(30.0), Notes((LONG,))):
        line.plain.encode(encoding)
        assert not line.plain.startswith("best      trial") or " +- " in line.plain


def test_a_trial_that_is_being_trained_is_a_row():
    tally = Tally(24)
    train(tally, 7, 3, now=0.0, resident_bytes=712 * MIB)
    *_, header, row = rendered(tally, 80, 23)
    assert header.split() == [
        *("trial", "epoch", "stage", "ratio", "error", "%", "time", "memory", "quantizer")
    ]
    figures = ["7", "3/8", "2/4", "0.500", "10.00", "0:30", "712", "MiB"]
    assert row.split() == [*figures, "uniform", "4", "bit"]


def test_before_the_first_epoch_nothing_is_known():
    *_, header, row = rendered(started(), 80, 23)
    assert "memory" not in header
    assert row.split()[:6] == ["0", "0/8", "1/4", "-", "-", "0:30"]


def test_a_float_warm_up_has_no_error_yet():
    tally = Tally(1)
    tally.trial_started(trial(0), 0.0)
    tally.reported({"number": 0, "epochs": [epoch(1, None, ratio=0.0)]}, 2.0)
    assert rendered(tally, 80, 23)[-1].split()[:5] == ["0", "1/8", "1/4", "0.000", "-"]


def test_memory_of_a_gpu_has_a_column_where_there_is_one():
    *_, header, first, _ = rendered(on_gpus(), 200, 23)
    assert header.split()[7:10] == ["memory", "GPU", "memory"]
    assert "  2,200 MiB  3,000/16,000 MiB  " in first


def test_the_headlines_say_what_has_happened():
    tally = after(12, 1)
    train(tally, 20, 4, now=0.0)
    tally.trial_held(20)
    trials, time, epochs, best, *_ = rendered(tally, 120, 23)
    assert trials == "trials    13 of 24 ended, 1 failed, 1 held"
    assert time == "time      1:30 so far, about 1:30 left"
    assert epochs == "epochs    78 trained, 28 % saved: 24 shared, 6 not begun"
    assert best.startswith(f"best      trial {tally.best.number:>3}  error ")


def test_a_time_limit_is_what_is_left_where_it_comes_first():
    def time(deadline):
        tally = after(2)
        train(tally, 20, 4, now=0.0)
        return draw(tally, Sheet(80, 23), Clock(8.0, deadline=deadline))[1].plain

    assert time(20.0) == "time      0:12 left until the time limit"
    assert time(10_000.0) == "time      about 4:20 left"


def test_nobody_knows_the_time_at_first():
    assert rendered(started(), 80, 23)[1] == "time      1:30 so far, time left unknown"
    assert rendered(started(), 80, 23)[2] == "best      no trial has finished yet"


def test_the_chart_has_every_kind_of_mark_and_its_units():
    lines = rendered(after(200), 80, 40)
    legend = next(i for i, line in enumerate(lines) if line.startswith("error %"))
    assert lines[legend] == "error %   ◆ best   ● front   · others"
    chart = "\n".join(lines[legend + 1 :])
    assert all(mark in chart for mark in "◆●·")
    assert lines[-2].endswith(" KiB")


@pytest.mark.parametrize("happened", ["nothing", "started", "only failed"])
def test_there_is_no_chart_before_a_trial_has_finished(happened):
    assert not any("KiB" in line for line in rendered(HAPPENED[happened](), 80, 40))


def test_parts_are_left_out_in_the_order_that_is_said():
    notes = Notes(("first", "second", "third"))
    tally = after(12)
    for number in range(20, 30):
        train(tally, number, 3, 0.0)
    marks = {
        "trials": "trials ",
        "time": "time ",
        "last note": "note      third",
        "table": "trial  epoch",
        "best": "best ",
        "epochs": "epochs ",
        "earlier notes": "note      first",
        "chart": "error %   ◆",
    }
    shown = []
    for height in range(1, 60):
        lines = rendered(tally, 80, height, notes)
        shown += [
            part
            for part, start in marks.items()
            if part not in shown and any(line.startswith(start) for line in lines)
        ]
    assert shown == list(marks)
    assert sum(" 3/8 " in line for line in rendered(tally, 80, 60, notes)) == 10
    few = rendered(tally, 80, 24, notes)
    assert any(line.startswith("and ") and line.endswith(" more") for line in few)


def test_figures_are_left_out_in_the_order_that_is_said():
    tally = after(3)
    train(tally, 5, 3, 0.0, resident_bytes=712 * MIB)
    names = ("trial", "epoch", "error %", "ratio", "time", "stage", "memory", "quantizer")
    shown = []
    for width in range(5, 201):
        header = draw(tally, Sheet(width, 23), Clock(8.0))[-2].plain
        shown += [name for name in (*names, "schedule") if name in header and name not in shown]
    assert shown == [*names, "schedule"]


def test_the_last_notes_are_kept_and_what_is_wrong_now_is_the_last():
    notes = Notes(("one", "two", "three"), trouble="MLflow: no answer for 12 s")
    lines = rendered(after(2), 80, 23, notes)[-MOST_NOTES:]
    assert lines == ["note      two", "note      three", "warning   MLflow: no answer for 12 s"]


def test_a_note_is_one_line_whatever_is_in_it():
    (line,) = (it for it in rendered(Tally(1), 80, 9, Notes(("a\tb\x1b[31m\nc",))) if "note" in it)
    assert line == "note      a b [31m c"


def test_without_colour_the_same_stands_there(monkeypatch):
    with_colour = rendered(after(12, 1), 80, 23)
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    console = Console(file=out, width=80, height=23, force_terminal=True)
    assert console.no_color
    for line in draw(after(12, 1), Sheet(80, 23), Clock(30.0, began=-60.0)):
        console.print(line)
    assert "\x1b[3" not in out.getvalue()  # no colour; bold and dim are none
    assert [Text.from_ansi(line).plain for line in out.getvalue().splitlines()] == with_colour


def test_a_place_that_nobody_has_is_idle():
    tally = Tally(9)
    for number in (0, 1, 2):
        tally.trial_started(trial(number), 0.0)
    tally.trial_ended(failed(1))
    rows = [line.split() for line in rendered(tally, 80, 23)[-3:]]
    assert [row[:2] for row in rows] == [["0", "0/8"], ["-", "idle"], ["2", "0/8"]]

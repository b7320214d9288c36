"""Progress where there is no terminal, where there is one, and where nobody wants it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sqtune.search.progress import Progress

from .seen import after, epoch, failed, trial


def shown(*, terminal: bool, quiet: bool = False, **options) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=terminal, **options)
    return Progress(console, quiet), out


def run(progress: Progress) -> None:
    progress.say('study "x": 3 trials to go, 2 at once')
    progress.begin(4, [trial(0, "finished")])
    for number in (1, 2, 3):
        progress.trial_started(trial(number))
        progress.reported({"number": number, "epochs": [epoch(1), epoch(2)]})
    progress.tick()
    progress.trial_paused(3)
    progress.trial_ended(trial(1, "finished"))
    progress.trial_ended(failed(2))
    progress.trial_ended(trial(4, "refused", why="too large"))
    progress.say("waiting for room")
    progress.tick()
    progress.end()
    progress.say("done")


LINES = [
    'study "x": 3 trials to go, 2 at once',
    "trial   3  held after epoch 2 of 8",
    "trial   1  error 10.00 ± 1.42 %  2 bit  21.9 KiB  ternary layer_centred  exponential  "
    "linear/filter  lr 0.1  [2/4, 0:00]",
    "trial   2  failed: the loss became nan in epoch 3 of 8.  [3/4, 0:00]",
    "waiting for room",
    "done",
]


@pytest.mark.parametrize("dumb", [False, True])
def test_without_a_terminal_each_trial_that_ends_is_one_plain_line(dumb, monkeypatch):
    if dumb:  # nothing there can be drawn anew
        monkeypatch.setenv("TERM", "dumb")
    progress, out = shown(terminal=dumb)
    run(progress)
    assert out.getvalue().splitlines() == LINES


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_is_nothing_at_all(terminal):
    progress, out = shown(terminal=terminal, quiet=True)
    run(progress)
    assert out.getvalue() == ""
    progress.console.print("the result")
    assert out.getvalue() == "the result\n"


def test_what_is_said_during_a_view_stands_in_it_and_below_it_afterwards(monkeypatch):
    monkeypatch.setattr("sqtune.search.progress.REFRESH_SECONDS", 0.0)
    progress, out = shown(terminal=True, color_system=None)
    run(progress)
    text = out.getvalue()
    during, _, after_it = text.rpartition("\x1b[2K")
    assert "note      " in during
    assert "waiting for room" in during
    assert after_it.splitlines() == [
        "trial   2  failed: the loss became nan in epoch 3 of 8.",
        "waiting for room",
        "done",
    ]


def test_of_many_notes_the_last_are_printed():
    progress, out = shown(terminal=True, color_system=None)
    progress.begin(4, [])
    for number in range(100):
        progress.say(f"note number {number}")
    progress.end()
    first, *others = out.getvalue().rpartition("\x1b[2K")[2].splitlines()
    assert first == "80 earlier notes are left out"
    assert others == [f"note number {number}" for number in range(80, 100)]


def test_what_is_wrong_is_a_warning_as_long_as_it_is():
    progress, out = shown(terminal=True, color_system=None)
    wrong = [None]
    progress.begin(4, [], trouble=lambda: wrong[0])
    wrong[0] = "MLflow: no answer for 12 s"
    progress._draw()
    assert out.getvalue().count("warning   MLflow: no answer for 12 s") == 1
    wrong[0] = None
    progress.trial_ended(trial(0, "finished", facts={"stage_problem": "the disk is full"}))
    progress._draw()
    assert "warning   not every stage is stored: the disk is full" in out.getvalue()
    progress.end()


def test_a_failure_in_letters_that_the_terminal_has_not_is_drawn_all_the_same():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="replace")
    progress = Progress(Console(file=file, width=80, height=24, force_terminal=True))
    progress.begin(4, list(after(3).front))
    progress.trial_ended(failed(9, "層 の 名前: no such layer"))
    progress._draw()
    progress.end()
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "failed: ? ? ??: no such layer" in text

"""The live view in real terminals: nothing wraps, nothing flickers, nothing is left behind."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import pytest

from .panes import Panes, has_ended, needs_tmux

pytestmark = needs_tmux
ROOT = Path(__file__).parents[2]
DRAWING = """
import sys, time
from rich.console import Console
from rich.text import Text
from sqtune.search.live_area import LiveArea

console, (first, second) = Console(), (lambda n: Text("first " + "x" * n), lambda n: Text("層" * n))
area = LiveArea(console)
for step in range(int(sys.argv[1])):
    width = console.width
    area.draw([first(width - 6), second(width // 2 - step % 7), *[Text("third")] * (step % 3)])
    if step == 20:
        print("said meanwhile")
    time.sleep(0.01)
area.close()
print("after it")
"""


@pytest.fixture
def panes(tmp_path):
    opened = Panes(tmp_path)
    yield opened
    opened.close()


def drawing(steps: int) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(DRAWING)} {steps}"


def test_lines_are_drawn_in_place_and_taken_away(panes):
    panes.open("area", drawing(80), 80, 10)
    seen = 0
    while not has_ended((looked := panes.look("area"))[0]):
        lines, whole = looked
        assert lines == whole
        view = [line for line in lines if line and line != "said meanwhile"]
        if view and view[0] != "after it":  # whole at every look
            assert view[0].startswith("first x")
            assert set(view[1]) == {"層"}
            seen += 1
    assert seen > 5
    assert panes.lines("area", scrolled=True)[:4] == ["said meanwhile", "after it", "", "ended"]


def test_a_terminal_that_changes_its_size_shows_the_lines_once(panes):
    panes.open("area", drawing(3000), 80, 10)
    panes.wait("area", lambda lines: lines[0].startswith("first"))
    for width in (47, 120, 33, 80):
        panes.resize("area", width, 10)
        deadline = time.monotonic() + 10.0
        while True:
            lines, whole = panes.look("area")
            drawn = len(lines[0]) == width and lines == whole
            if drawn and sum(line.startswith("first") for line in lines) == 1:
                break
            assert time.monotonic() < deadline, lines
            assert not has_ended(lines)


def test_a_search_shows_its_view_and_leaves_its_result(panes, tmp_path):
    sizes = {"usual": (80, 24), "narrow": (40, 24)}
    for name, (width, height) in sizes.items():
        command = (
            f"cd {tmp_path} && exec {shlex.quote(sys.executable)} -m sqtune search --space "
            f"{ROOT / 'search_spaces' / 'resnet.yaml'} --trials 2 --concurrent 1 --name {name} "
            f"--store {name} --set trial.num_epochs=12 --set trial.network.width=4"
        )
        panes.open(name, f"sh -c {shlex.quote(command)}", width, height)
    looks = dict.fromkeys(sizes, 0)
    charts, waiting = set(), set(sizes)
    deadline = time.monotonic() + 200
    while waiting:
        assert time.monotonic() < deadline, panes.lines(waiting.pop(), scrolled=True)
        for name in sorted(waiting):
            lines, whole = panes.look(name)
            if has_ended(lines):
                waiting.remove(name)
                continue
            begins = [i for i, line in enumerate(lines) if " of 2 ended" in line]
            if not begins:
                continue
            view = lines[begins[0] :]  # whole at every look
            assert len(begins) == 1
            assert view[0].startswith("trials")
            assert view[1].startswith("time")
            assert any(line.startswith("best") for line in view)
            assert view == whole[-len(view) :]
            looks[name] += 1
            if any(line.startswith("error %") for line in view):
                charts.add(name)
        time.sleep(0.03)
    assert min(looks.values()) > 20
    assert charts == set(sizes)
    for name in sizes:
        lines = panes.lines(name, scrolled=True)
        assert lines[0] == "starting Ray on this machine ..."
        assert lines[1].startswith(f'study "{name}": 2 trials to go')
        text = "\n".join(lines)
        assert "trials    2 finished" in text
        assert " of 2 ended" not in text
        assert "time left" not in text
        assert "trial epoch" not in text.replace("trial  epoch", "trial epoch")

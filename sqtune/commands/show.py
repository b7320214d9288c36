"""`sqtune show`: a study's trials, once or as they come."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import click

from sqtune.errors import ConfigError
from sqtune.next_steps import say_next, typed
from sqtune.options import (
    json_option,
    options,
    store_option,
    study_argument,
    study_storage_option,
)
from sqtune.output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from sqtune.search.records import TrialRecord
    from sqtune.search.view import StudyView
    from sqtune.search.watch import Watch

WATCH_SECONDS = 2.0


@click.command()
@study_argument
@click.option("--watch", is_flag=True, help="Show them anew as they come, until Ctrl-C.")
@options(store_option, study_storage_option, json_option)
def show(
    name: str | None, watch: bool, store: str, study_storage: str | None, as_json: bool
) -> None:
    """Show a study's trials, best first.

    By default those of the study searched last.

    \b
    sqtune show
    sqtune show resnet --watch
    sqtune show resnet --json
    """
    from sqtune.search.look import load_study

    if watch and as_json:
        raise ConfigError("--watch and --json exclude each other: leave one out.")
    study, trials = load_study(store, study_storage, name)
    if as_json:
        from sqtune.search.pareto import compared, front
        from sqtune.search.tables import as_data

        found = front(trials, compared(study.space.search.objectives))
        on_front = [trial.number for trial in found]
        shown = [as_data(trial) for trial in trials]
        print_json({"study": study.name, "front": on_front, "trials": shown})
        return
    out = console()
    if not watch:
        out.print(_view(study, trials, width=out.width if out.is_terminal else None))
        if steps := _next_steps(shlex.quote(study.name), trials):
            say_next(out, steps)
        return
    from sqtune.search.look import trials_now
    from sqtune.search.watch import Watch

    watched = Watch(study)
    follow = _on_screen if out.is_interactive else _line_by_line
    follow(out, study, watched, trials, lambda: trials_now(study, store, study_storage))


def _line_by_line(
    out: Console,
    study: StudyView,
    watched: Watch,
    trials: list[TrialRecord],
    look: Callable[[], list[TrialRecord]],
) -> None:
    """Print the trials that there are, then a line for each that ends."""
    from sqtune.search.tables import trial_line

    out.print(_view(study, trials))
    watched.look(trials, time.monotonic(), time.time())
    while True:
        time.sleep(WATCH_SECONDS)
        for trial in watched.look(look(), time.monotonic(), time.time()):
            if trial.counts:
                out.print(trial_line(trial), highlight=False, soft_wrap=True)


def _on_screen(
    out: Console,
    study: StudyView,
    watched: Watch,
    trials: list[TrialRecord],
    look: Callable[[], list[TrialRecord]],
) -> None:
    """Show what is being trained and, below it, the trials that there is room for, best first."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from sqtune.search.live_view import Clock, draw
    from sqtune.search.sheet import Sheet

    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            now = time.monotonic()
            watched.look(trials, now, time.time())
            width, height = out.size
            lines = []
            if any(watched.tally.running):
                below = min(len(trials) + 6, height // 2)
                sheet = Sheet(width, height - below, out.encoding)
                lines = [*draw(watched.tally, sheet, Clock(now)), Text()]
            rest = _view(study, trials, height - len(lines), width)
            live.update(Group(*lines, rest), refresh=True)
            time.sleep(WATCH_SECONDS)
            trials = look()


def _view(
    study: StudyView,
    trials: list[TrialRecord],
    most: int | None = None,
    width: int | None = None,
) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from sqtune.search.choice import choose
    from sqtune.search.fit import nearest
    from sqtune.search.records import reason_of
    from sqtune.search.tables import counts_text, epochs_line, trials_table

    failures = [
        f"trial {trial.number} failed: {reason_of(trial.failure)}"
        for trial in trials
        if trial.failure
    ]
    space = study.space
    objectives = space.search.objectives
    choice = choose(study.name, study.attrs, trials)
    leader = None if choice is None else choice.trial
    table = trials_table(
        trials, most, objectives=objectives, target=space.target, width=width, leader=leader
    )
    near = nearest(trials, space.target) if all(t.state == "refused" for t in trials) else None
    if near is not None:
        failures = [f"none fits the target; the nearest is trial {near.number}: {near.why}"]
    lines = [f'study "{study.name}": {counts_text(trials)}', *epochs_line(trials)]
    return Group(*map(Text, lines), table, *map(Text, failures))


def _next_steps(name: str, trials: list[TrialRecord]) -> dict[str, str]:
    """Return what to type next, as the study stands."""
    from sqtune.search.pareto import best

    at = typed("store", "study_storage")
    steps = {}
    if any(trial.state == "running" for trial in trials):
        steps[f"sqtune show {name}{at} --watch"] = "trials as they come"
        steps[f"sqtune stop {name}{at}"] = "end it; the same search command goes on"
    smallest = best(trials, max_error=1.0)
    if smallest is not None and smallest.size_bytes is not None:
        budget = smallest.size_bytes // 1024 + 2  # KiB, somewhat above it
        steps[f"sqtune report {name}{at}"] = "what was found, on one page"
        steps[f"sqtune best {name}{at} --max-size {budget}KiB"] = "the best under a size budget"
    failed = next((trial.number for trial in trials if trial.failure), None)
    if failed is not None:
        steps[f"sqtune logs {failed} {name}{at}"] = "what happened to a trial that failed"
    return steps

"""`sqtune show`: a study's trials, once or as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from sqtune.errors import ConfigError
from sqtune.options import json_option, options, store_option, study_storage_option
from sqtune.output import console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sqtune.search.records import TrialRecord
    from sqtune.search.view import StudyView

WATCH_SECONDS = 2.0


@click.command()
@click.argument("name", required=False)
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
        out.print(_view(study, trials), soft_wrap=False)
        return
    from rich.live import Live

    view = _view(study, trials)
    with Live(view, console=out, auto_refresh=False, screen=out.is_terminal) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            study, trials = load_study(store, study_storage, study.name)
            live.update(_view(study, trials), refresh=True)


def _view(study: StudyView, trials: list[TrialRecord]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from sqtune.search.fit import nearest
    from sqtune.search.tables import counts_text, epochs_line, trials_table

    failures = [
        f"trial {trial.number} failed: {trial.failure.strip().splitlines()[-1]}"
        for trial in trials
        if trial.failure
    ]
    space = study.space
    table = trials_table(trials, objectives=space.search.objectives, target=space.target)
    near = nearest(trials, space.target) if all(t.state == "refused" for t in trials) else None
    if near is not None:
        failures = [f"none fits the target; the nearest is trial {near.number}: {near.why}"]
    lines = [f'study "{study.name}": {counts_text(trials)}', *epochs_line(trials)]
    return Group(*map(Text, lines), table, *map(Text, failures))

"""`sqtune stop` and `sqtune logs`: a search that runs, and what became of a trial."""

from __future__ import annotations

import shlex
import time

import click

from sqtune.completion import complete_trial
from sqtune.errors import StudyError
from sqtune.next_steps import say_next, typed
from sqtune.options import (
    json_option,
    options,
    store_option,
    study_argument,
    study_storage_option,
)
from sqtune.output import console, print_json
from sqtune.store import Store

POLL_SECONDS = 0.5


@click.command()
@study_argument
@click.option("--wait", is_flag=True, help="Return when the search has ended.")
@options(store_option, study_storage_option, json_option)
def stop(
    name: str | None, wait: bool, store: str, study_storage: str | None, as_json: bool
) -> None:
    """End a running search, with all stored, so that it can go on.

    Running trials finish their epoch.

    \b
    sqtune stop
    sqtune stop resnet --wait
    """
    from sqtune.search.look import ask_to_stop, is_driven, load_study

    study, _ = load_study(store, study_storage, name)
    place = (store, study_storage, study.name)
    if not is_driven(*place):
        raise StudyError(f'no search of "{study.name}" is running; see: sqtune show')
    ask_to_stop(*place)
    while wait and is_driven(*place):
        time.sleep(POLL_SECONDS)
    if as_json:
        print_json({"study": study.name, "ended": not is_driven(*place)})
        return
    out, at = console(), typed("store", "study_storage")
    ended = f'the search "{study.name}" has ended; the same command goes on'
    ends = f'the search "{study.name}" ends when its running trials finish their epoch'
    out.print(ended if wait else ends, highlight=False, soft_wrap=True)
    say_next(out, {f"sqtune show {shlex.quote(study.name)}{at}": "what it has found"})


@click.command()
@click.argument("trial", type=click.IntRange(min=0), shell_complete=complete_trial)
@study_argument
@options(store_option, study_storage_option, json_option)
def logs(
    trial: int, name: str | None, store: str, study_storage: str | None, as_json: bool
) -> None:
    """Print a trial's log: its epochs, its failure, where it hung.

    \b
    sqtune logs 7
    sqtune logs 7 resnet
    """
    from sqtune.search.look import load_study

    study, trials = load_study(store, study_storage, name)
    places = Store.at(store)
    path = places.log(study.name, trial)
    if not places.fetch(path, newest=True):
        known = {each.number: each for each in trials}
        if trial not in known:
            raise StudyError(f'there is no trial {trial} in "{study.name}"; see: sqtune show')
        raise StudyError(
            f'trial {trial} of "{study.name}" has no log: '
            f"{known[trial].why or 'no worker had it.'} See: sqtune show"
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    if as_json:
        print_json({"study": study.name, "trial": trial, "file": str(path), "log": text})
        return
    click.echo(text, nl=False)
    name, at = shlex.quote(study.name), typed("store", "study_storage")
    steps = {f"sqtune show {name}{at}": "all trials of the study"}
    say_next(console(to_stderr=True), steps)  # stdout is the log, as it stands in the file

"""What the commands print: tables and the best network for people, JSON for programs."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqtune.errors import ConfigError
from sqtune.next_steps import deployed, say_next, space_typed, typed
from sqtune.search.endings import ENDINGS
from sqtune.settings import without_password
from sqtune.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from sqtune.search.choice import Choice
    from sqtune.search.confirmed import Confirmation
    from sqtune.search.outcome import Outcome

PLAIN_WIDTH = 120  # columns of a table that no terminal shows


def console(*, to_stderr: bool = False) -> Console:
    """Return where people read; what no terminal shows is 120 columns wide.

    Nothing is markup: patterns and paths have brackets of their own. Unknown letters become "?".
    """
    from rich.console import Console

    if isinstance(stream := sys.stderr if to_stderr else sys.stdout, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    out = Console(stderr=to_stderr, markup=False)
    if out.is_terminal:
        return out
    plain: Any = {"force_terminal": False, "force_jupyter": False}  # a notebook's takes lines, too
    return Console(stderr=to_stderr, markup=False, width=PLAIN_WIDTH, **plain)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(content, indent=1, allow_nan=False))


def outcome_data(outcome: Outcome, store: Store) -> dict[str, Any]:
    """Return what a search came to as plain data."""
    from sqtune.search.tables import as_data

    return {
        "study": outcome.study,
        "ending": outcome.ending,
        "store": store.place,
        "network": str(outcome.network) if outcome.network else None,
        "best": as_data(outcome.best) if outcome.best else None,
        "epochs_asked": sum(trial.epochs_asked for trial in outcome.trials),
        "epochs_trained": sum(trial.epochs_trained for trial in outcome.trials),
        "stage_problem": outcome.stage_problem,
        "trials": [as_data(trial) for trial in outcome.trials],
    }


def print_outcome(
    out: Console, outcome: Outcome, places: Store, tracking_uri: str | None = None
) -> None:
    """Print the table of trials, the best network, where things lie and what to type next."""
    from sqtune.search.confirmed import confirmations
    from sqtune.search.records import reason_of
    from sqtune.search.tables import counts_text, epochs_line, trials_table

    objectives, target = outcome.space.search.objectives, outcome.space.target
    width = out.width if out.is_terminal else None
    table = trials_table(
        outcome.trials,
        30,
        objectives=objectives,
        target=target,
        width=width,
        leader=outcome.best,
    )
    out.print(table)
    lines = [f"trials    {counts_text(outcome.trials)}", *epochs_line(outcome.trials)]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
    name, at, more = (
        shlex.quote(outcome.study),
        typed("store", "study_storage"),
        typed("tracking_uri"),
    )
    if outcome.choice is None or outcome.network is None:
        out.print("no trial has finished")
        for trial in outcome.trials:
            if trial.failure:
                out.print(f"trial {trial.number} failed: {reason_of(trial.failure)}")
                say_next(out, {f"sqtune logs {trial.number} {name}{at}": "what happened to it"})
                break
        return
    print_best(out, outcome.choice, outcome.network)
    print_confirmed(out, confirmations(outcome.study, outcome.attrs))
    out.print(f"study     {places.place}", highlight=False, soft_wrap=True)
    if outcome.front_page is not None:
        out.print(f"front     {outcome.front_page}", highlight=False, soft_wrap=True)
    ui = f"sqtune ui{typed('store')}" if tracking_uri is None else without_password(tracking_uri)
    sure = outcome.choice.confirmed is not None
    say_next(
        out,
        {
            **(
                {}
                if sure
                else {f"sqtune confirm {name}{at}{more}": "the best again, with new seeds"}
            ),
            **({f"sqtune best {name}{at}": "the confirmed network"} if sure else {}),
            f"sqtune report {name}{at}{more}": "what was found, on one page",
            ui: "every figure, in MLflow",
            f"sqtune export {name}{at}{more}{deployed()}": "the best as a packed file, proven",
        },
    )


def print_ending(outcome: Outcome) -> None:
    """Say on stderr what went wrong beside the trials, and why the search ended."""
    if outcome.stage_problem:
        click.echo(f"warning: not every stage was stored: {outcome.stage_problem}", err=True)
    if outcome.tracking_problem:
        click.echo(
            f"warning: MLflow does not have everything: {outcome.tracking_problem}\n"
            "The same command brings it up to date.",
            err=True,
        )
    if outcome.why:
        click.echo(outcome.why, err=True)
    elif outcome.ending in ENDINGS:
        click.echo(ENDINGS[outcome.ending], err=True)


def print_best(out: Console, choice: Choice, folder: Path) -> None:
    """Print the best network, where it rests on one seed though others do not, and its place."""
    from sqtune.search.tables import trial_line
    from sqtune.search.wording import measured

    trial = choice.trial
    lines = [f"best      {trial_line(trial)}"]
    if choice.instead is not None:
        lines.append(f"          {choice.grounds}")
    if trial.test_error is not None:
        num_test = trial.facts.get("num_test")
        top5 = trial.facts.get("test_top5_error")
        more = "" if top5 is None else f", top-5 {measured(top5, num_test)}"
        lines.append(f"test      error {measured(trial.test_error, num_test)}{more}, measured once")
    lines.append(f"network   {folder}")
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def print_confirmed(out: Console, confirmations: Sequence[Confirmation]) -> None:
    """Print which network has the lowest mean over new seeds, at each budget that was tried."""
    from sqtune.search.wording import percent, plural

    for each in confirmations:
        results = [result for result in each.results if result.errors]
        if not results:
            continue
        first = min(results, key=lambda result: result.mean)
        instead = (
            "" if each.num_epochs is None else f", trained for {each.num_epochs:,} epochs instead"
        )
        out.print(
            f"confirmed trial {first.trial:>3} has the lowest mean: {percent(first.mean)} % over "
            f"{plural(len(first.errors), 'new seed')}{instead}; "
            f"see: sqtune show {shlex.quote(each.study)}",
            highlight=False,
            soft_wrap=True,
        )


def check_new_folder(folder: Path, option: str = "--out") -> None:
    """Make the folder around a new one; refuse a place that cannot be written, before any work.

    Raises:
        ConfigError: Something is there already, or nothing can be written there.
    """
    if folder.is_symlink() or os.path.ismount(folder):  # nothing can take their place
        raise ConfigError(
            f"{option} {folder}: is a link, or where a disk is mounted. Give a folder in it."
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            f"{option} {folder}: exists and is not an empty folder. Give another path."
        )
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"{option} {folder}: is the folder you are in. Give another path.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option} {folder}: cannot be written: {error.strerror}. Give another path."
        ) from None


def print_saved(out: Console, space_file: Path, overrides: Sequence[str], folder: Path) -> None:
    """Print where a network was saved and a search that starts from it."""
    same = [text for text in overrides if text.startswith(("trial.network", "trial.data"))]
    space = space_typed(space_file, [*same, f"trial.start.weights={folder}"])
    name, at = shlex.quote(f"from-{folder.name}"), shlex.quote(str(folder))
    out.print(f"network   {folder.absolute()}", highlight=False, soft_wrap=True)
    say_next(
        out,
        {
            f"sqtune search --name {name}{space}": "a search that starts from it",
            f"sqtune export --network {at}{deployed()}": "it as a packed file",
        },
    )

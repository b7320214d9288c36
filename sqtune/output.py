"""What the commands print: tables and the best network for people, JSON for programs."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqtune.errors import ConfigError
from sqtune.store import DEFAULT_STORE, Store

if TYPE_CHECKING:
    from rich.console import Console

    from sqtune.search.records import TrialRecord
    from sqtune.search.run import Outcome

PLAIN_WIDTH = 120  # columns of a table that no terminal shows


def console(*, to_stderr: bool = False) -> Console:
    """Return where people read; what no terminal shows is 120 columns wide.

    Nothing is markup: patterns and paths have brackets of their own.
    """
    from rich.console import Console

    out = Console(stderr=to_stderr, markup=False)
    if out.is_terminal:
        return out
    return Console(stderr=to_stderr, markup=False, width=PLAIN_WIDTH)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(content, indent=1, allow_nan=False))


def outcome_data(outcome: Outcome, store: Store) -> dict[str, Any]:
    """Return what a search came to as plain data."""
    from sqtune.search.tables import as_data

    return {
        "study": outcome.study,
        "ending": outcome.ending,
        "store": str(store.root),
        "network": str(outcome.network) if outcome.network else None,
        "best": as_data(outcome.best) if outcome.best else None,
        "epochs_asked": sum(trial.epochs_asked for trial in outcome.trials),
        "epochs_trained": sum(trial.epochs_trained for trial in outcome.trials),
        "stage_problem": outcome.stage_problem,
        "trials": [as_data(trial) for trial in outcome.trials],
    }


def print_outcome(out: Console, outcome: Outcome, places: Store, store: str) -> None:
    """Print the table of trials, the best network, where things lie and what to type next."""
    from sqtune.search.tables import epochs_line, trials_table

    out.print(trials_table(outcome.trials, most=30))
    for line in epochs_line(outcome.trials):
        out.print(line, highlight=False, soft_wrap=True)
    if outcome.stage_problem:
        problem = f"warning: stages could not all be stored: {outcome.stage_problem}"
        out.print(problem, highlight=False, soft_wrap=True)
    if outcome.best is None or outcome.network is None:
        out.print("no trial has finished")
        for trial in outcome.trials:
            if trial.failure:
                out.print(f"trial {trial.number} failed: {trial.failure.strip().splitlines()[-1]}")
                break
        return
    print_best(out, outcome.best, outcome.network)
    sizes = [trial.size_bytes for trial in outcome.trials if trial.size_bytes is not None]
    budget = -(-min(sizes) // 1024) + 1
    at = "" if store == DEFAULT_STORE else f" --store {store}"
    out.print(f"study     {places.root}", highlight=False, soft_wrap=True)
    out.print(
        f"next      sqtune ui{at}        every figure, in MLflow\n"
        f"          sqtune best{at} --max-size {budget}KiB        the best under a size budget",
        highlight=False,
        soft_wrap=True,
    )


def print_best(out: Console, trial: TrialRecord, folder: Path) -> None:
    """Print the best network and where it lies."""
    from sqtune.search.tables import percent, trial_line

    lines = [f"best      {trial_line(trial)}"]
    if trial.test_error is not None:
        lines.append(f"test      error {percent(trial.test_error)} %, measured once")
    lines.append(f"network   {folder}")
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def check_new_folder(folder: Path) -> None:
    """Make the folder around a new one; refuse a place that cannot be written, before any work.

    Raises:
        ConfigError: Something is there already, or nothing can be written there.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"--out {folder}: exists and is not an empty folder. Give another path.")
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"--out {folder}: is the folder you are in. Give another path.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out {folder}: cannot be written: {error.strerror}. Give another path."
        ) from None


def print_saved(out: Console, space_file: Path, overrides: Sequence[str], folder: Path) -> None:
    """Print where a network was saved and a search that starts from it."""
    command = ["sqtune", "search", "--space", str(space_file), "--name", f"from-{folder.name}"]
    for override in overrides:  # what makes it another network, or other images
        if override.startswith(("trial.network", "trial.data")):
            command += ["--set", override]
    command += ["--set", f"trial.start.weights={folder}"]
    for line in (f"network   {folder.absolute()}", f"next      {shlex.join(command)}"):
        out.print(line, highlight=False, markup=False, soft_wrap=True)

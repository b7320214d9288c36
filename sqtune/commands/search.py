"""`sqtune search`: propose, train, record; the same command again goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sqtune.completion import complete_study
from sqtune.next_steps import typed
from sqtune.options import (
    INTERRUPTED,
    cluster_options,
    concurrent_option,
    json_option,
    offline_option,
    options,
    places_options,
    quiet_option,
    set_option,
    space_option,
    with_unit,
)
from sqtune.output import (
    console,
    outcome_data,
    print_ending,
    print_json,
    print_outcome,
)
from sqtune.report import page_maker
from sqtune.search.endings import nothing_trained
from sqtune.store import Store


@click.command()
@options(space_option, set_option)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Go on until so many trials have ended, those of earlier commands included "
    "(search.num_trials).",
)
@options(concurrent_option)
@click.option(
    "--name", shell_complete=complete_study, help="Name of the study; by default the space file's."
)
@click.option(
    "--time-limit",
    callback=with_unit("time"),
    metavar="TIME",
    help="End after this time: 2h, 90min or seconds (search.time_limit_seconds).",
)
@click.option(
    "--target-error",
    callback=with_unit("share"),
    metavar="ERROR",
    help="End once a quantized network has at most this validation error: 1% or 0.01.",
)
@click.option(
    "--warm-start",
    metavar="NAME",
    shell_complete=complete_study,
    help="Tell the sampler of another study's trials.",
)
@options(*places_options, offline_option, *cluster_options, quiet_option, json_option)
def search(
    space_file: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    concurrent: int | None,
    name: str | None,
    time_limit: float | None,
    target_error: float | None,
    warm_start: str | None,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    offline: bool,
    address: str | None,
    working_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Search a space; the same command again goes on where it stopped.

    \b
    sqtune search --space my-space.yaml
    sqtune search --space my-space.yaml --trials 48 --time-limit 2h
    sqtune search --space my-space.yaml --set trial.num_epochs=2 --name quick
    """
    from sqtune.config.asked import asked_space
    from sqtune.config.load import space_text

    space = asked_space(
        space_file,
        overrides,
        name=name,
        num_trials=trials,
        max_concurrent=concurrent,
        time_limit_seconds=time_limit,
        target_error=target_error,
    )
    from sqtune.search.outcome import Places
    from sqtune.search.progress import Progress
    from sqtune.search.run import run_search

    places = Places(Store.at(store), study_storage, tracking_uri, address, working_dir, offline)
    progress = Progress(console(to_stderr=as_json), quiet)
    outcome = run_search(
        space,
        space_text(space_file),
        places,
        progress,
        warm_start=warm_start,
        page=page_maker(typed("store", "study_storage")),
    )
    if as_json:
        print_json(outcome_data(outcome, places.store))
    else:
        print_outcome(progress.console, outcome, places.store, tracking_uri)
    if outcome.ending == "exhausted" and outcome.best is None:
        raise nothing_trained(outcome)
    print_ending(outcome)
    if outcome.ending == "interrupted":
        sys.exit(INTERRUPTED)
    if outcome.ending in ("failures", "unwritable", "unsuited node", "taken over") or (
        outcome.best is None and outcome.ending == "complete"
    ):
        sys.exit(1)

"""`sqtune confirm`: the best networks again, with new seeds, judged by their mean."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqtune.errors import StudyError
from sqtune.next_steps import deployed, say_next, typed
from sqtune.options import (
    INTERRUPTED,
    cluster_options,
    json_option,
    offline_option,
    options,
    places_options,
    quiet_option,
    study_argument,
)
from sqtune.output import console, print_ending, print_json
from sqtune.report import page_maker
from sqtune.store import Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sqtune.search.confirmed import Confirmed
    from sqtune.search.records import TrialRecord


@click.command()
@study_argument
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Train so many of the best networks again.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Train each of them with so many new seeds.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Train for so many epochs; by default as before."
)
@options(*places_options, offline_option, *cluster_options, quiet_option, json_option)
def confirm(
    name: str | None,
    top: int,
    seeds: int,
    epochs: int | None,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    offline: bool,
    address: str | None,
    working_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train the best again with new seeds: the lowest mean error wins.

    The best are the front's, where several objectives were searched. The same command again goes
    on; with more seeds it adds them.

    \b
    sqtune confirm
    sqtune confirm resnet --top 3 --seeds 5
    sqtune confirm resnet --top 1 --seeds 3 --epochs 200
    """
    from sqtune.search import confirm as confirming
    from sqtune.search.choice import choose
    from sqtune.search.confirmed import Confirmation
    from sqtune.search.limits import GOOD_ENDINGS
    from sqtune.search.look import load_study
    from sqtune.search.outcome import Places
    from sqtune.search.pareto import candidates, front, ranking
    from sqtune.search.progress import Progress
    from sqtune.search.record import record_choice
    from sqtune.search.run import run_search

    study, trials = load_study(store, study_storage, name)
    places = Places(Store.at(store), study_storage, tracking_uri, address, working_dir, offline)
    several = len(study.space.search.objectives) > 1
    best = front(trials, study.space.search.objectives) if several else candidates(ranking(trials))
    chosen = confirming.distinct(best, epochs)[:top]
    if not chosen:
        raise StudyError(f'no trial of "{study.name}" has finished yet; see: sqtune show')
    before = study.beside(confirming.confirmation_name(study.name, epochs))
    earlier = () if before is None else before.space.points
    space = confirming.confirmation_space(study.space, chosen, seeds, epochs, earlier)
    progress = Progress(console(to_stderr=as_json), quiet)

    outcome = run_search(
        space,
        json.dumps(space.model_dump(mode="json", by_alias=True), indent=1),
        places,
        progress,
        marks={"confirms": study.name},
        page=page_maker(typed("store", "study_storage")),
    )
    results = confirming.confirmed(chosen, outcome.trials, epochs, ranking(trials))
    measured = [each for each in results if each.errors]
    found = Confirmation(outcome.study, epochs, tuple(results))
    if outcome.ending in GOOD_ENDINGS:
        study.set_attr(found.attribute, found.as_data())
    name, top_trial, network = outcome.study, outcome.best, outcome.network
    choice = choose(study.name, study.attrs, trials)
    if choice is not None and outcome.ending in GOOD_ENDINGS:
        missing = record_choice(study, choice, places)
        outcome = replace(outcome, tracking_problem=outcome.tracking_problem or missing)
    if choice is not None and choice.confirmed in measured:
        name, top_trial = study.name, choice.trial  # what was confirmed is the study's own
        network = places.store.network(name, top_trial.number)
    if as_json:
        print_json(
            {
                "study": study.name,
                "confirmation": outcome.study,
                "ending": outcome.ending,
                "num_epochs": epochs,
                "confirmed": found.as_data()["results"],
                "winner": measured[0].trial if measured else None,
                "network": None if network is None else str(network),
            }
        )
    else:
        _print(progress.console, results, name, top_trial, network)
    print_ending(outcome)
    if outcome.ending == "interrupted":
        sys.exit(INTERRUPTED)
    if not measured:
        sys.exit(1)


def _print(
    out: Console,
    results: list[Confirmed],
    study: str,
    trial: TrialRecord | None,
    network: Path | None,
) -> None:
    """Print what new seeds gave, who wins, and what to do with it.

    Args:
        out: Where to.
        results: The lowest mean first.
        study: Whose trial the winner is.
        trial: The winner; None where nothing was trained.
        network: Its folder.
    """
    out.print(_table(results))
    if trial is not None:
        measured = [each for each in results if each.errors]
        out.print(_verdict(measured), highlight=False, soft_wrap=True)
        out.print(f"network   {network}", highlight=False, soft_wrap=True)
        at = typed("store", "study_storage", "tracking_uri")
        command = f"sqtune export {shlex.quote(study)} --trial {trial.number}{at}{deployed()}"
        say_next(out, {command: "the winner as a packed file, proven"})


def _table(results: list[Confirmed]) -> Table:
    from rich import box
    from rich.table import Table

    from sqtune.search.wording import kib, percent

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("trial", "first %", "mean %", "std", "lowest", "highest", "seeds", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in results:
        errors = [percent(each.mean), _points(each.deviation)] if each.errors else ["", ""]
        ends = [percent(min(each.errors)), percent(max(each.errors))] if each.errors else ["", ""]
        count = f"{len(each.errors)}" + (f" ({each.failed} failed)" if each.failed else "")
        first = percent(each.first_error)
        table.add_row(str(each.trial), first, *errors, *ends, count, kib(each.size_bytes))
    return table


def _points(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _verdict(measured: list[Confirmed]) -> str:
    """Return who wins by the mean, and who is within the noise of it."""
    from sqtune.search.confirmed import lead

    first = measured[0]
    line = f"winner    trial {first.trial}, by the mean: {100 * first.mean:.2f} %"
    if first.standard_error is not None:
        line += f" ± {100 * first.standard_error:.2f} (standard error over the seeds)"
    return "; ".join(filter(None, (line, lead(measured))))

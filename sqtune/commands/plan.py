"""`sqtune plan`: what a search will cost, before it costs anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqtune.next_steps import say_next, space_typed, typed
from sqtune.options import json_option, options, set_option, space_option, store_option
from sqtune.output import console, print_json
from sqtune.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from sqtune.config.space import SearchSpace
    from sqtune.search.plan import Plan, Trials


@click.command()
@options(space_option, set_option, store_option, json_option)
def plan(space_file: Path, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Say what a search will cost and what fits, before it trains.

    Of a comparison, what `sqtune compare` will cost with three seeds.

    \b
    sqtune plan --space my-space.yaml
    sqtune plan --space my.yaml --set search.num_trials=100 --json
    """
    from sqtune.config import load_space
    from sqtune.config.compared import DEFAULT_SEEDS, comparison_space

    places = Store.at(store)
    space = load_space(space_file, overrides)
    compared = space.compare is not None
    if compared:
        space = comparison_space(space, DEFAULT_SEEDS)
    from sqtune.data.prepare import prepare
    from sqtune.search.plan import plan as make_plan

    folder = places.data if places.root.is_dir() else None
    made = make_plan(space, lambda data: prepare(data, folder))
    if as_json:
        print_json({"space": space.name, **asdict(made)})
        return
    out, again = console(), f"{space_typed(space_file, overrides)}{typed('store')}"
    _print(out, space, made)
    if compared:
        say_next(out, {f"sqtune compare{again}": "train the methods, seed by seed"})
    else:
        say_next(out, {f"sqtune search{again}": "search; the same command again goes on"})


def _print(out: Console, space: SearchSpace, plan: Plan) -> None:
    """Print what a search is about to do."""
    from sqtune.config.parameters import label
    from sqtune.search.wording import count_text, kib

    survey, trials, cost = plan.survey, plan.trials, plan.cost
    whole = survey.configurations is not None
    points = "endless" if survey.points is None else f"{survey.points:,}"
    refused = f"{100 * survey.refused:.1f}"
    if whole:
        points += f" ({survey.configurations:,} different configurations)"
    else:
        refused += f" ± {100 * survey.refused_standard_error:.1f}"
        points += f"; {survey.looked_at:,} drawn at random"
    lines = [f"points    {points}"]
    if space.target is not None:
        fits = f"{refused} % do not fit the target" if survey.refused else "all fit the target"
        lines[0] += f": {fits}"
    lines.append(f"size      {_span(map(kib, survey.size_bytes))} ({plan.form})")
    lines.append(f"RAM       {_span(map(kib, survey.ram_bytes))}")
    lines.append(f"MACs      {_span(map(count_text, survey.macs))}")
    of_all = "" if trials.trials == space.search.num_trials else f" of {space.search.num_trials:,}"
    asked = space.search.sampler
    by = asked if trials.sampler == asked else f"{trials.sampler} in place of {asked}, which learns"
    free = f"{trials.refused:,} proposals refused, {trials.repeated:,} repeated"
    lines.append(f"trials    {trials.trials:,}{of_all}, proposed by {by}; {free}")
    if trials.epochs_asked:
        lines.append(f"epochs    {_shared(trials)}")
    if cost is None:
        lines.append(f"time      {plan.no_cost}")
    else:
        lines += [] if cost.note is None else [f"GPU       {cost.note}"]
        hours = _held(cost.cpu_hours, "CPU")
        hours += f", {_held(cost.gpu_hours, 'GPU')}" if cost.gpu_hours else ""
        lines.append(f"time      {_time(cost.seconds)} ({hours}), {cost.slots} at once")
        lines.append(
            f"          an epoch of {label(cost.typical)} takes {cost.epoch_seconds:.1f} s "
            f"(measured on {cost.probed_images:,} images)"
        )
    if space.search.early_stopping.name != "none":
        lines.append("          without what early stopping saves")
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)


def _time(seconds: float) -> str:
    """Return an estimated time, no finer than it is known.

    >>> _time(6), _time(70), _time(600), _time(243_700)
    ('less than a minute', 'about 1.2 minutes', 'about 10 minutes', 'about 67.7 hours')
    """
    minutes = seconds / 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"about {minutes:.1f} minutes" if minutes < 10 else f"about {minutes:.0f} minutes"
    return f"about {minutes / 60:.1f} hours"


def _held(hours: float, what: str) -> str:
    """Return how long processors are held.

    >>> _held(1.5, "GPU"), _held(0.0083, "CPU")
    ('1.5 GPU-hours', '0.5 CPU-minutes')
    """
    return f"{hours:,.1f} {what}-hours" if hours >= 1 else f"{60 * hours:.2g} {what}-minutes"


def _span(ends: Iterable[str]) -> str:
    """Return the smallest and the largest, once where people read the same of both.

    >>> _span(["8.0 KiB", "9.0 KiB"]), _span(["8.0 KiB", "8.0 KiB"])
    ('8.0 KiB to 9.0 KiB', '8.0 KiB')
    """
    return " to ".join(dict.fromkeys(ends))


def _shared(trials: Trials) -> str:
    """Return how many epochs are trained, and what trials that begin alike save of them."""
    if trials.epochs == trials.epochs_asked:
        return f"{trials.epochs:,}; no two trials begin alike, so none are shared"
    share = f"{100 * trials.epochs / trials.epochs_asked:.0f}"
    return (
        f"{trials.epochs:,} of {trials.epochs_asked:,} ({share} %): "
        f"{trials.stages:,} different stages of {trials.stages_asked:,}"
    )

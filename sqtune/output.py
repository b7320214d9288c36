"""What the commands print: tables and the best network for people, JSON for programs."""

from __future__ import annotations

import io
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sqtune.errors import ConfigError
from sqtune.settings import without_password
from sqtune.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from sqtune.config.space import SearchSpace
    from sqtune.search.plan import Plan
    from sqtune.search.records import TrialRecord
    from sqtune.search.run import Outcome

ENDINGS = {  # why a search ended, in the words of the next step
    "interrupted": "interrupted; the same command goes on from what is stored",
    "stopped": "ended by sqtune stop; the same command goes on",
    "time limit": "the time limit ended the search; the same command goes on",
    "GPU hours": "the search has used its GPU hours (search.max_gpu_hours); with more, the same "
    "command goes on",
    "failures": "too many trials failed for the same reason (search.max_failures); see sqtune logs "
    "TRIAL; the same command goes on",
    "taken over": "another driver has taken the study over, as this one gave no sign of life for "
    "half a minute; it goes on there",
    "target error": "the wanted error is reached (search.target_error)",
}
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
        "store": store.place,
        "network": str(outcome.network) if outcome.network else None,
        "best": as_data(outcome.best) if outcome.best else None,
        "epochs_asked": sum(trial.epochs_asked for trial in outcome.trials),
        "epochs_trained": sum(trial.epochs_trained for trial in outcome.trials),
        "stage_problem": outcome.stage_problem,
        "trials": [as_data(trial) for trial in outcome.trials],
    }


def typed(*names: str) -> str:
    """Return those of these options that were typed for this command, to be typed for the next.

    What an environment variable or the settings file says holds for the next one anyway.
    """
    context = click.get_current_context()
    return "".join(
        f" --{name.replace('_', '-')} {shlex.quote(without_password(context.params[name]))}"
        for name in names
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    )


def print_outcome(
    out: Console, outcome: Outcome, places: Store, tracking_uri: str | None = None
) -> None:
    """Print the table of trials, the best network, where things lie and what to type next."""
    from sqtune.search.tables import counts_text, epochs_line, trials_table

    objectives, target = outcome.space.search.objectives, outcome.space.target
    width = out.width if out.is_terminal else None
    out.print(trials_table(outcome.trials, 30, objectives=objectives, target=target, width=width))
    lines = [f"trials    {counts_text(outcome.trials)}", *epochs_line(outcome.trials)]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
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
    at, more = typed("store", "study_storage"), typed("tracking_uri")
    ui = f"sqtune ui{typed('store')}" if tracking_uri is None else without_password(tracking_uri)
    steps = {
        f"sqtune confirm {shlex.quote(outcome.study)}{at}{more}": "the best again, with new seeds",
        ui: "every figure, in MLflow",
        f"sqtune best{at} --max-size {budget}KiB": "the best under a size budget",
        f"sqtune export{at}{more} --out deployed": "the best as a packed file, proven",
    }
    shown = [f"{step}        {what}" for step, what in steps.items()]
    out.print(f"study     {places.place}", highlight=False, soft_wrap=True)
    out.print("next      " + "\n          ".join(shown), highlight=False, soft_wrap=True)


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


def nothing_trained(outcome: Outcome) -> ConfigError:
    """Return an error that says why no proposal of a search was trained."""
    from sqtune.search.fit import nearest

    near = nearest(outcome.trials, outcome.space.target)
    if near is None:
        return ConfigError(f'no trial of "{outcome.study}" has finished: {outcome.why}.')
    return ConfigError(
        f"target: none of {len(outcome.trials):,} proposals fits. The nearest is trial "
        f"{near.number}: {near.why} Relax the target or widen the space, with another --name; "
        "sqtune plan says what fits."
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


def print_confirmed(out: Console, confirmed: Mapping[str, Any] | None) -> None:
    """Print which network has the lowest mean over new seeds, if that was measured."""
    from sqtune.search.tables import percent

    results = [each for each in (confirmed or {}).get("results", ()) if each["errors"]]
    if confirmed is None or not results:
        return
    first = min(results, key=lambda each: float(each["mean"]))
    out.print(
        f"confirmed trial {first['trial']:>3} has the lowest mean: {percent(first['mean'])} % over "
        f"{len(first['errors'])} new seeds; see: sqtune show {shlex.quote(confirmed['study'])}",
        highlight=False,
        soft_wrap=True,
    )


def nothing_fits(
    study: str, trials: Sequence[TrialRecord], max_size: int | None, max_error: float | None
) -> ConfigError:
    """Return an error that says what limits would have a network."""
    from sqtune.search.pareto import best
    from sqtune.search.tables import kib, percent

    top, smallest = best(trials), best(trials, max_error=1.0)
    if top is None or smallest is None or top.val_error is None or smallest.val_error is None:
        return ConfigError(f'no trial of "{study}" has finished yet; see: sqtune show')
    limits, nearest = [], []
    if max_size is not None:
        limits.append(f"--max-size {kib(max_size)}")
        nearest.append(f"the smallest, trial {smallest.number}, takes {kib(smallest.size_bytes)}")
    if max_error is not None:
        limits.append(f"--max-error {percent(max_error)} %")
        nearest.append(f"the best, trial {top.number}, has {percent(top.val_error)} %")
    return ConfigError(f'{", ".join(limits)}: no network of "{study}" fits; {"; ".join(nearest)}.')


def print_plan(out: Console, space: SearchSpace, plan: Plan) -> None:
    """Print what a search is about to do."""
    from sqtune.config.parameters import label
    from sqtune.search.tables import count_text, kib

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
        lines[0] += f": {refused} % do not fit the target"
    low, high = survey.size_bytes
    lines.append(f"size      {kib(low)} to {kib(high)} ({plan.form})")
    lines.append(f"RAM       {kib(survey.ram_bytes[0])} to {kib(survey.ram_bytes[1])}")
    lines.append("MACs      {} to {}".format(*map(count_text, survey.macs)))
    of_all = "" if trials.trials == space.search.num_trials else f" of {space.search.num_trials:,}"
    asked = space.search.sampler
    by = asked if trials.sampler == asked else f"{trials.sampler} in place of {asked}, which learns"
    free = f"{trials.refused:,} proposals refused, {trials.repeated:,} repeated"
    lines.append(f"trials    {trials.trials:,}{of_all}, proposed by {by}; {free}")
    if trials.epochs_asked:
        share = f"{100 * trials.epochs / trials.epochs_asked:.0f}"
        lines.append(
            f"epochs    {trials.epochs:,} of {trials.epochs_asked:,} ({share} %): "
            f"{trials.stages:,} different stages of {trials.stages_asked:,}"
        )
    if cost is None:
        lines.append(f"time      {plan.no_cost}")
    else:
        lines += [] if cost.note is None else [f"GPU       {cost.note}"]
        hours = f"{_hours(cost.cpu_hours)} CPU-hours"
        hours += f", {_hours(cost.gpu_hours)} GPU-hours" if cost.gpu_hours else ""
        lines.append(f"time      about {_time(cost.seconds)} ({hours}), {cost.slots} at once")
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

    >>> _time(70), _time(600), _time(243_700)
    ('1.2 minutes', '10 minutes', '67.7 hours')
    """
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.1f} minutes" if minutes < 10 else f"{minutes:.0f} minutes"
    return f"{minutes / 60:.1f} hours"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


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

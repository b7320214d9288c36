"""The command line: each command one straight function; heavy imports inside."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from sqtune.errors import ConfigError
from sqtune.options import (
    INTERRUPTED,
    Commands,
    json_option,
    max_error_option,
    max_size_option,
    options,
    set_option,
    space_option,
    store_option,
    study_storage_option,
)
from sqtune.output import (
    check_new_folder,
    console,
    nothing_fits,
    outcome_data,
    print_best,
    print_json,
    print_outcome,
    print_plan,
    print_saved,
)
from sqtune.store import Store


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sqtune")
def main() -> None:
    r"""Find the most accurate low-bit network that fits.

    \b
    sqtune plan --space search_spaces/resnet.yaml      what it will cost, in seconds
    sqtune search --space search_spaces/resnet.yaml    search; again: go on
    sqtune show                                        all trials, best first
    sqtune best --max-size 20KiB                       the best network under a budget
    sqtune ui                                          every figure, in MLflow
    """


@main.command()
@options(space_option, set_option)
@click.option("--trials", type=click.IntRange(min=1), help="Trials to finish (search.num_trials).")
@click.option("--name", help="Name of the study; by default the space file's.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after this time (search.time_limit_seconds).",
)
@options(store_option, study_storage_option)
@click.option(
    "--tracking-uri", metavar="URI", help="MLflow tracking URI; by default a database in the store."
)
@json_option
def search(
    space_file: Path,
    overrides: tuple[str, ...],
    trials: int | None,
    name: str | None,
    time_limit: float | None,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    r"""Search a space; the same command again goes on where it stopped.

    \b
    sqtune search --space search_spaces/resnet.yaml
    sqtune search --space search_spaces/resnet.yaml --trials 48
    sqtune search --space search_spaces/resnet.yaml --set trial.num_epochs=2 --name quick
    """
    from sqtune.config import load_space

    extra = {"search.num_trials": trials, "search.time_limit_seconds": time_limit}
    more = [f"{path}={value}" for path, value in extra.items() if value is not None]
    more += [f"name={json.dumps(name)}"] if name is not None else []
    space = load_space(space_file, [*overrides, *more])
    from sqtune.search.progress import Progress
    from sqtune.search.run import Places, run_search

    places = Places(Store.at(store), study_storage, tracking_uri)
    progress = Progress(console(to_stderr=as_json))
    outcome = run_search(space, space_file.read_text(encoding="utf-8"), places, progress)
    if as_json:
        print_json(outcome_data(outcome, places.store))
    else:
        print_outcome(progress.console, outcome, places.store, store)
    if outcome.tracking_problem:
        click.echo(
            f"warning: MLflow does not have everything: {outcome.tracking_problem}\n"
            "The same command brings it up to date.",
            err=True,
        )
    if outcome.ending == "time limit":
        click.echo("the time limit ended the search; the same command goes on", err=True)
    if outcome.ending == "interrupted":
        click.echo("interrupted; the same command goes on from what is stored", err=True)
        sys.exit(INTERRUPTED)
    if outcome.ending == "complete" and outcome.best is None:
        sys.exit(1)


@main.command()
@options(space_option, set_option, store_option, json_option)
def plan(space_file: Path, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    r"""Say what a search is about to cost, and what fits, before anything is trained.

    \b
    sqtune plan --space search_spaces/resnet.yaml
    sqtune plan --space search_spaces/resnet.yaml --set search.num_trials=100 --json
    """
    from sqtune.config import load_space

    space = load_space(space_file, overrides)
    from sqtune.data.split import prepare
    from sqtune.search import plan as planning

    folder = Store.at(store).data if Path(store).is_dir() else None
    made = planning.plan(space, lambda data: prepare(data, folder))
    if as_json:
        print_json({"space": space.name, **asdict(made)})
    else:
        print_plan(console(), space, made)


@main.command()
@click.argument("name", required=False)
@options(store_option, study_storage_option, json_option)
def show(name: str | None, store: str, study_storage: str | None, as_json: bool) -> None:
    r"""Show a study's trials, best first; by default the study searched last.

    \b
    sqtune show
    sqtune show resnet --json
    """
    from sqtune.search.look import load_study

    study, trials = load_study(store, study_storage, name)
    objectives = study.space.search.objectives
    if as_json:
        from sqtune.search.pareto import front
        from sqtune.search.tables import as_data

        on_front = [trial.number for trial in front(trials, objectives)]
        shown = [as_data(trial) for trial in trials]
        print_json({"study": study.name, "front": on_front, "trials": shown})
        return
    from sqtune.search.tables import counts_text, trials_table

    out = console()
    out.print(f'study "{study.name}": {counts_text(trials)}', highlight=False)
    out.print(trials_table(trials, objectives=objectives, target=study.space.target))
    for trial in trials:
        if trial.failure:
            out.print(f"trial {trial.number} failed: {trial.failure.strip().splitlines()[-1]}")


@main.command()
@click.argument("name", required=False)
@options(max_size_option, max_error_option)
@click.option(
    "--knee", is_flag=True, help="The knee of error against size: more of either is dear there."
)
@options(store_option, study_storage_option, json_option)
def best(
    name: str | None,
    max_size: int | None,
    max_error: float | None,
    knee: bool,
    store: str,
    study_storage: str | None,
    as_json: bool,
) -> None:
    r"""Name the best network: of all, within a budget, or at the knee.

    \b
    sqtune best resnet --max-size 20KiB --json    the smallest error within a size
    sqtune best --max-error 2%                    the smallest size within an error
    sqtune best --knee                            where error against size bends
    """
    from sqtune.search import pareto
    from sqtune.search.look import load_study
    from sqtune.search.tables import as_data

    if knee and (max_size is not None or max_error is not None):
        raise ConfigError("--knee weighs error against size by itself: leave out the other limits.")
    study, trials = load_study(store, study_storage, name)
    top = pareto.knee(trials) if knee else pareto.best(trials, max_size, max_error)
    if top is None:
        raise nothing_fits(study.name, trials, max_size, max_error)
    folder = Store.at(store).network(study.name, top.number)
    if as_json:
        print_json({"study": study.name, "network": str(folder), **as_data(top)})
    else:
        print_best(console(), top, folder)


@main.command()
@options(space_option, set_option)
@click.option(
    "--out",
    type=Path,
    metavar="DIR",
    help="Folder for the trained network; a new one or an empty one.",
)
@options(store_option, json_option)
def train(
    space_file: Path, overrides: tuple[str, ...], out: Path | None, store: str, as_json: bool
) -> None:
    r"""Train one network: what stands under trial: in the space file. No Ray, no study.

    \b
    sqtune train --space search_spaces/resnet.yaml --set trial.quantizer.name=ternary
    sqtune train --space search_spaces/resnet.yaml --set trial.quantizer.name=float --out float-net
    sqtune train --space search_spaces/resnet.yaml --set trial.start.weights=float-net
    """
    from sqtune.config import load_space

    space = load_space(space_file, overrides)
    config = space.config({})
    if out is not None:
        check_new_folder(out)
    from sqtune.data.split import prepare
    from sqtune.search.machine import this_machine
    from sqtune.search.tables import percent
    from sqtune.train.loop import train as train_network

    this_machine(space.resources)
    printer = console(to_stderr=as_json)
    splits = prepare(config.data, Store.at(store).data if Path(store).is_dir() else None)
    results = []
    for result in train_network(
        config,
        splits=splits,
        device="cuda" if space.resources.gpus else "cpu",
        num_threads=space.resources.num_threads,
        save_to=out,
    ):
        results.append({"epoch": result.epoch, **result.metrics()})
        error = (
            "-" if result.val_error is None else percent(result.val_error, len(splits.validation))
        )
        printer.print(
            f"epoch {result.epoch:>3}/{result.num_epochs}  ratio {result.ratio:.3f}  "
            f"loss {result.train_loss:.4f}  val error {error} %  "
            f"hybrid {percent(result.val_error_hybrid)} %  "
            f"{result.images_per_second:,.0f} images/s",
            highlight=False,
            soft_wrap=True,
        )
    if as_json:
        network = None if out is None else str(out.absolute())
        print_json({"config": config.nested(), "epochs": results, "network": network})
    elif out is not None:
        print_saved(printer, space_file, overrides, out)


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), help="By default a free one from 5000 on.")
@options(store_option, json_option)
def ui(port: int | None, store: str, as_json: bool) -> None:
    """Open MLflow's pages on the store, on this machine only, until Ctrl-C."""
    from sqtune.mlflow_ui import serve

    places = Store.at(store)
    serve(
        places,
        port,
        on_start=lambda url: (
            print_json({"url": url}) if as_json else click.echo(f"MLflow: {url}  (Ctrl-C ends it)")
        ),
    )


@main.command()
@options(store_option, json_option)
def schema(store: str, as_json: bool) -> None:
    r"""Print the JSON schema of space files, for editors.

    \b
    sqtune schema > search_spaces/schema.json
    """
    del store, as_json  # taken for the sake of uniformity: the schema is JSON, wherever it is asked
    from sqtune.config.schema import space_file_schema

    print_json(space_file_schema())

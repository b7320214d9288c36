"""The command line: each command one straight function; heavy imports inside."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sqtune.commands.compare import compare
from sqtune.commands.confirm import confirm
from sqtune.commands.control import logs, stop
from sqtune.commands.doctor import doctor
from sqtune.commands.export import export
from sqtune.commands.new import new
from sqtune.commands.plan import plan
from sqtune.commands.predict import predict
from sqtune.commands.report import report
from sqtune.commands.search import search
from sqtune.commands.show import show
from sqtune.commands.stages import store
from sqtune.commands.submit import submit
from sqtune.commands.verify import verify
from sqtune.completion import SHELLS, complete_folder, script
from sqtune.errors import ConfigError
from sqtune.next_steps import deployed, say_next, space_typed, typed
from sqtune.options import (
    Commands,
    json_option,
    max_error_option,
    max_size_option,
    options,
    quiet_option,
    set_option,
    space_option,
    store_option,
    study_argument,
    study_storage_option,
)
from sqtune.output import (
    check_new_folder,
    console,
    print_best,
    print_confirmed,
    print_json,
    print_saved,
)
from sqtune.search.endings import nothing_fits
from sqtune.store import Store


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="sqtune")
@click.pass_context
def main(context: click.Context) -> None:
    """Find the most accurate low-bit network that fits.

    It trains networks whose weights have few bits (Stochastic Quantization), each with another
    ratio schedule, selection, quantizer and learning rate; shows error against size; and hands over
    the best as a small file that gives the predictions that were measured. A space file (YAML) says
    what to search.

    \b
    The straight line:
      sqtune new my-space.yaml             a space file, to be changed
      sqtune plan --space my-space.yaml    what it will cost
      sqtune search --space my-space.yaml  search; again: go on
      sqtune show                          all trials, best first
      sqtune report                        one page: what was found
      sqtune best --max-size 20KiB         the best under a budget
      sqtune confirm                       again, with new seeds
      sqtune export --out deployed         a packed, proven file
      sqtune predict deployed cat.png      what an image shows

    Begin with "sqtune doctor": it says whether all is there. Every command has examples in its
    --help, and ends with what to type next.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    *(new, plan, search, show, report, confirm, compare, export, verify, predict),
    *(submit, stop, logs, store, doctor),
):
    main.add_command(_command)


@main.command()
@study_argument
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
    """Name the best network: of all, within a budget, or at the knee.

    \b
    sqtune best                          the smallest error
    sqtune best resnet --max-size 20KiB  the smallest error within a size
    sqtune best --max-error 2%           the smallest size within an error
    sqtune best --knee                   where error against size bends
    """
    from sqtune.search.choice import choose
    from sqtune.search.confirmed import confirmations
    from sqtune.search.look import load_study
    from sqtune.search.tables import as_data

    if knee and (max_size is not None or max_error is not None):
        raise ConfigError("--knee weighs error against size by itself: leave out the other limits.")
    study, trials = load_study(store, study_storage, name)
    confirmed = confirmations(study.name, study.attrs)
    choice = choose(study.name, study.attrs, trials, max_size, max_error, knee=knee)
    if choice is None:
        raise nothing_fits(study.name, study.attrs, trials, max_size, max_error)
    top, places = choice.trial, Store.at(store)
    folder = places.network(study.name, top.number)
    places.fetch(folder)
    if as_json:
        content = {"study": study.name, "network": str(folder), **as_data(top)}
        print_json({**content, "confirmed": confirmed[0].as_data() if confirmed else None})
    else:
        out, name, at = console(), shlex.quote(study.name), typed("store", "study_storage")
        print_best(out, choice, folder)
        print_confirmed(out, confirmed)
        command = f"sqtune export {name} --trial {top.number}{at}{deployed()}"
        say_next(out, {command: "it as a packed file, proven"})


@main.command()
@options(space_option, set_option)
@click.option(
    "--out",
    type=Path,
    metavar="DIR",
    shell_complete=complete_folder,
    help="Folder for the trained network; a new one or an empty one.",
)
@options(store_option, quiet_option, json_option)
def train(
    space_file: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    store: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train one network: what stands under trial: in the space file. No Ray, no study.

    \b
    sqtune train --space my.yaml --set trial.quantizer.name=ternary
    sqtune train --space my.yaml --set trial.quantizer.name=float --out float-net
    sqtune train --space my.yaml --set trial.start.weights=float-net
    """
    from sqtune.config import load_space

    places = Store.at(store)
    space = load_space(space_file, overrides)
    config = space.config({})
    if out is not None:
        check_new_folder(out)
    from sqtune.data.prepare import prepare
    from sqtune.search.machine import this_machine
    from sqtune.search.wording import percent
    from sqtune.train.loop import train as train_network

    machine = this_machine(space.resources)
    printer = console(to_stderr=as_json)
    if machine.note is not None and not quiet:
        printer.print(machine.note, highlight=False, soft_wrap=True)
    splits = prepare(config.data, places.data if places.root.is_dir() else None)
    results = []
    for result in train_network(
        config,
        splits=splits,
        device=machine.resources.device,
        num_threads=space.resources.num_threads,
        save_to=out,
    ):
        results.append({"epoch": result.epoch, **result.metrics()})
        if quiet and (as_json or not result.final):
            continue
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
    else:
        again = f"{space_typed(space_file, overrides)}{typed('store')}"
        say_next(printer, {f"sqtune train{again} --out DIR": "the same, and keep the network"})


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), help="By default a free one from 5000 on.")
@options(store_option, json_option)
def ui(port: int | None, store: str, as_json: bool) -> None:
    """Open MLflow's pages on the store until Ctrl-C.

    They are served to this machine only.

    \b
    sqtune ui
    sqtune ui --store /shared/store --port 5050
    """
    from sqtune.mlflow_ui import serve

    places = Store.at(store)

    def on_start(url: str, study: str | None, pages: dict[str, str]) -> None:
        if as_json:
            print_json({"url": url, "study": study, "pages": pages})
            return
        click.echo(f"MLflow    {url}  (Ctrl-C ends it)")
        if study is not None:
            click.echo(f"study     {study}")
        for name, page in pages.items():
            click.echo(f"{name:10}{page}")

    serve(places, port, on_start)


@main.command()
@click.option("--store", hidden=True, expose_value=False)  # taken as by all others
@click.option("--json", is_flag=True, hidden=True, expose_value=False)  # it is JSON anyway
def schema() -> None:
    """Print the JSON schema of space files, for editors.

    \b
    sqtune schema > search_spaces/schema.json
    """
    from sqtune.config.schema import space_file_schema

    print_json(space_file_schema())


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script: a shell then completes commands and studies.

    \b
    sqtune completion fish > ~/.config/fish/completions/sqtune.fish
    eval "$(sqtune completion bash)"    in ~/.bashrc
    eval "$(sqtune completion zsh)"     in ~/.zshrc, behind compinit
    """
    click.echo(script(main, shell), nl=False)

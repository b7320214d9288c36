"""`sqtune export`: the best network, or a chosen one, as a file that runs elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqtune.completion import complete_folder, complete_trial
from sqtune.errors import ConfigError
from sqtune.next_steps import after_export, say_next
from sqtune.options import (
    json_option,
    max_error_option,
    max_size_option,
    options,
    store_option,
    study_argument,
    study_storage_option,
    tracking_option,
)
from sqtune.output import console, print_json
from sqtune.search.endings import nothing_fits
from sqtune.store import Store

if TYPE_CHECKING:
    from sqtune.config.options import Target
    from sqtune.deploy.manifest import Source
    from sqtune.search.chosen import Chosen


@click.command()
@study_argument
@click.option(
    "--out",
    required=True,
    type=Path,
    metavar="DIR",
    shell_complete=complete_folder,
    help="The folder to write; a new one.",
)
@click.option(
    "--trial",
    type=click.IntRange(min=0),
    shell_complete=complete_trial,
    help="This trial's network, not the best.",
)
@click.option("--run", "run_id", metavar="ID", help="The network of this MLflow run.")
@click.option(
    "--network",
    type=Path,
    metavar="DIR",
    shell_complete=complete_folder,
    help="A folder that sqtune train --out wrote, instead of a study's network.",
)
@options(max_size_option, max_error_option)
@click.option("--knee", is_flag=True, help="The knee of error against size.")
@click.option(
    "--form",
    type=click.Choice(["onnx", "native", "torch", "c"]),
    default="onnx",
    show_default=True,
    help="onnx: packed, for any ONNX Runtime. native: INT4 and INT2 tensors, for compilers. "
    "torch: safetensors, for sqtune.load. c: C99, for microcontrollers.",
)
@click.option(
    "--activations",
    type=click.Choice(["trained", "int8", "int4", "int2"]),
    default="trained",
    show_default=True,
    help="Inputs of layers: as trained, or whole numbers calibrated on training images.",
)
@click.option("--force", is_flag=True, help="Replace an exported folder.")
@options(store_option, study_storage_option, tracking_option, json_option)
def export(
    name: str | None,
    out: Path,
    trial: int | None,
    run_id: str | None,
    network: Path | None,
    max_size: int | None,
    max_error: float | None,
    knee: bool,
    form: str,
    activations: str,
    force: bool,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Write the best network as a file that runs elsewhere.

    Or a chosen one. The file is as small as its bits promise, and is proven before the folder gets
    its name: every code, every scale, and the predictions on the whole validation split. It is also
    logged to the trial's MLflow run and registered as "sqtune-STUDY" with the alias "trial-NUMBER",
    and "best" where it is the study's best.

    \b
    sqtune export --out deployed
    sqtune export resnet --max-size 20KiB --out deployed
    sqtune export --trial 7 --form c --out firmware
    sqtune export --activations int8 --out deployed
    sqtune export --network float-net --out deployed
    """
    from sqtune.deploy.export import Request
    from sqtune.deploy.export import export as export_network
    from sqtune.deploy.folder import refuse_taken
    from sqtune.deploy.measures.report import layers_table, size_table
    from sqtune.search.choice import is_best
    from sqtune.search.look import load_study

    refuse_taken(out, force=force)
    places = Store.at(store)
    chosen, grounds = _chosen(
        places, study_storage, name, trial, run_id, network, (max_size, max_error, knee)
    )
    loaded = None
    if chosen.source["study"] is not None:
        loaded = load_study(places.place, study_storage, chosen.source["study"])
    printer = console(to_stderr=as_json)
    if grounds:
        line = f"trial {chosen.source['trial']} of {chosen.source['study']}, {grounds}"
        printer.print(line, highlight=False, soft_wrap=True)
    request = Request(
        network=chosen.folder,
        data=places.data if places.root.is_dir() else None,
        out=out,
        form=form,  # type: ignore[arg-type]  # click has checked them
        activations=activations,  # type: ignore[arg-type]
        source=chosen.source,
        force=force,
    )
    manifest = export_network(
        request, say=lambda line: printer.print(line, highlight=False, soft_wrap=True)
    )
    registered = None
    if loaded is not None:
        study, trials = loaded
        best = is_best(chosen.source["trial"], study.name, study.attrs, trials)
        uri = (places, tracking_uri)
        registered = _register(uri, chosen.source, out, manifest, best=best)
        if missed := _missed(study.space.target, manifest):
            click.echo(f"warning: {missed}", err=True)
    if as_json:
        print_json({"folder": str(out.absolute()), "registered": registered, "manifest": manifest})
        return
    printer.print(layers_table(manifest))
    printer.print(size_table(manifest))
    lines = [f"folder    {out.absolute()}"]
    if registered is not None:
        lines.append(f"model     {registered['uri']}")
    for line in lines:
        printer.print(line, highlight=False, soft_wrap=True)
    verify = f"sqtune verify {shlex.quote(str(out))}"
    say_next(printer, {verify: "whether it still is what was proven", **after_export(out, form)})


def _chosen(
    places: Store,
    study_storage: str | None,
    name: str | None,
    trial: int | None,
    run_id: str | None,
    network: Path | None,
    limits: tuple[int | None, float | None, bool],
) -> tuple[Chosen, str]:
    """Return what the options name, and what the choice rests on where sqtune made it.

    Raises:
        ConfigError: They name several things, or nothing fits.
        StudyError: There is no such study, trial or run.
        ExportError: The trial has no finished network.
    """
    from sqtune.search.chosen import Chosen, asked_for, chosen_network
    from sqtune.train.checkpoint import ABOUT

    ways = {
        "--trial": trial is not None,
        "--run": run_id is not None,
        "--network": network is not None,
        "--max-size, --max-error or --knee": any(limit not in (None, False) for limit in limits),
    }
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} each choose a network: give one of them.")
    if network is not None:
        if name is not None:
            raise ConfigError(f"--network is a folder, not one of study {name!r}: leave one out.")
        if not (network / ABOUT).is_file():
            raise ConfigError(
                f"--network {network}: sqtune has written no network there. Give the folder that "
                "sqtune train --out wrote; one of a study is chosen by its name and --trial."
            )
        source: Source = {"study": None, "trial": None, "run_id": None, "network": str(network)}
        return Chosen(network, source), ""
    from sqtune.search.choice import choose
    from sqtune.search.look import load_study

    study, trials = load_study(places.place, study_storage, name)
    max_size, max_error, knee = limits
    if trial is not None or run_id is not None:
        found = asked_for(study.name, trials, trial, run_id)
        return chosen_network(places, study.name, trials, found), ""
    if knee and (max_size is not None or max_error is not None):
        raise ConfigError("--knee weighs error against size by itself: leave out the other limits.")
    choice = choose(study.name, study.attrs, trials, max_size, max_error, knee=knee)
    if choice is None:
        raise nothing_fits(study.name, study.attrs, trials, max_size, max_error)
    return chosen_network(places, study.name, trials, choice.trial), choice.grounds


def _missed(target: Target | None, manifest: Mapping[str, Any]) -> str | None:
    """Return what does not fit of a form that the search's target did not count; None if all does.

    Args:
        target: The study's.
        manifest: Of what was written.
    """
    from sqtune.deploy.sizes.footprint import Footprint, refusal

    form, size = manifest["form"], manifest["size"]
    if target is None or form == target.form:
        return None
    written = Footprint(size["bytes"], size["weight_bits"], size["ram_bytes"] or 0, 0, 0)
    problem = refusal(written, target.model_copy(update={"form": form, "max_macs": None}))
    if problem is None:
        return None
    return (
        f"{problem} The search counted the form {target.form}. Search with target.form: c, or "
        "choose a smaller network: --max-size."
    )


def _register(
    uri: tuple[Store, str | None],
    source: Source,
    out: Path,
    manifest: Mapping[str, Any],
    *,
    best: bool,
) -> dict[str, Any] | None:
    """Log the folder to its trial's MLflow run; say on stderr where that cannot be."""
    from sqtune.errors import TrackingError
    from sqtune.tracking.database import tracking_uri
    from sqtune.tracking.models import register

    try:
        done = register(
            tracking_uri(*uri), source["study"] or "", source["run_id"], out, manifest, best=best
        )
    except TrackingError as error:
        click.echo(f"warning: {error}", err=True)
        return None
    return None if done is None else asdict(done)

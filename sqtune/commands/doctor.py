"""`sqtune doctor`: whether a search would run here, and what to do where it would not."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sqtune.next_steps import say_next, typed
from sqtune.options import address_option, json_option, options, places_options
from sqtune.output import console, print_json
from sqtune.settings import DEFAULT_FILE, FILE_VARIABLE, VARIABLES
from sqtune.shipped import BEGIN, IN_A_CHECKOUT

if TYPE_CHECKING:
    from rich.console import Console

    from sqtune.doctor import Check, Finding

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}
NARROW = 60  # columns: texts stand below their subjects
CLUSTER_SECONDS, DATABASE_SECONDS, IMPORT_SECONDS, URL_SECONDS = 30.0, 30.0, 120.0, 60.0


@click.command()
@click.option("--ray", "try_ray", is_flag=True, help="Start Ray here, too, and stop it: seconds.")
@options(*places_options, address_option, json_option)
def doctor(
    try_ray: bool,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Say whether a search would run here, and what to do where not.

    Each line is ok, a note (a search runs, something else would not), or a problem. It ends with
    exit code 1 where there is a problem.

    \b
    sqtune doctor
    sqtune doctor --ray
    sqtune doctor --store /shared/store --address 10.0.0.1:6379 --json
    """
    from sqtune.doctor import examine

    checks = _checks(store, study_storage, tracking_uri, address, try_ray=try_ray)
    out, found = console(to_stderr=as_json), []
    for finding in examine(checks):
        found.append(finding)
        if not as_json:
            _print(out, finding)
    runs = all(finding.state != "problem" for finding in found)
    if as_json:
        print_json({"search_would_run": runs, "findings": [asdict(each) for each in found]})
    elif runs:
        given = typed("store", "study_storage", "tracking_uri", "address")
        space, steps = f"{IN_A_CHECKOUT}/resnet.yaml", {}
        if not Path(space).exists():
            space, steps = BEGIN.split()[-1], {BEGIN: "a space file to begin with"}
        steps[f"sqtune plan --space {space}{typed('store')}"] = "what it costs"
        steps[f"sqtune search --space {space}{given}"] = "a first search"
        say_next(out, steps)
    sys.exit(0 if runs else 1)


def _checks(
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    address: str | None,
    *,
    try_ray: bool,
) -> list[Check]:
    from sqtune.doctor import Check, gpu, machine, packages, places, ray

    checks = [
        Check("Python", packages.look_at_python),
        Check("packages", packages.look_at_versions),
        Check("CPUs", machine.look_at_cpus, otherwise="note"),
        Check("memory", machine.look_at_memory, otherwise="note"),
        Check("disks", partial(machine.look_at_disks, store)),
        Check("settings", partial(places.look_at_settings, _origins()), otherwise="note"),
        Check("store", partial(places.look_at_store, store), URL_SECONDS),
        Check("ports", places.look_at_ports, otherwise="note"),
        Check("compilers", machine.look_at_compilers, otherwise="note"),
        Check("extras", packages.look_at_extras, otherwise="note"),
        Check("GPUs", gpu.look_at_gpus, IMPORT_SECONDS),
        Check("imports", packages.look_at_imports, IMPORT_SECONDS),
    ]
    if study_storage is not None:
        look = partial(places.look_at_study_storage, study_storage)
        checks.append(Check("study storage", look, DATABASE_SECONDS))
    if tracking_uri is not None:
        look = partial(places.look_at_tracking, tracking_uri)
        checks.append(Check("tracking", look, DATABASE_SECONDS))
    if address is not None:
        checks.append(Check("Ray cluster", partial(ray.look_at_cluster, address), CLUSTER_SECONDS))
    if try_ray:
        checks.append(Check("Ray", ray.look_at_ray, ray.START_SECONDS + CLUSTER_SECONDS))
    return checks


def _origins() -> dict[str, tuple[str | None, str]]:
    """Return the value and the origin of each setting."""
    from sqtune.doctor.places import TYPED

    context = click.get_current_context()
    named = os.environ.get(FILE_VARIABLE)
    file = f"{named} ({FILE_VARIABLE})" if named else str(DEFAULT_FILE)
    words = {
        ParameterSource.COMMANDLINE: TYPED,
        ParameterSource.DEFAULT_MAP: f"from {file}",
        ParameterSource.DEFAULT: "by default",
    }
    found = {}
    for name, variable in VARIABLES.items():
        source = context.get_parameter_source(name)
        origin = words.get(source, f"from {variable}") if source else "by default"
        found[name] = (context.params[name], origin)
    return found


def _print(out: Console, finding: Finding) -> None:
    from rich.text import Text

    texts = Text(finding.text)
    if finding.remedy is not None:
        texts.append(f"\n→ {finding.remedy}", style="bold")
    head = Text.assemble((f"{finding.state:<9}", STYLES[finding.state]), f"{finding.subject:<15}")
    indent = Text(" " * len(head))
    if out.width < NARROW:
        out.print(head)
        head = indent = Text("  ")
    for number, line in enumerate(texts.wrap(out, out.width - len(indent))):
        line.rstrip()
        out.print((indent if number else head) + line)

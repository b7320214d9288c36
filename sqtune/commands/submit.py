"""`sqtune submit`: a search as a job of a cluster, which goes on without us."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from sqtune.commands.search import search
from sqtune.completion import complete_folder
from sqtune.errors import ClusterError, ConfigError
from sqtune.files import is_url
from sqtune.options import options, set_option, space_option, working_dir_option
from sqtune.settings import SECRETS, VARIABLES, without_password
from sqtune.store import DEFAULT_STORE

PASSED = ("store", "study_storage", "tracking_uri")


@click.command(context_settings={"ignore_unknown_options": True})
@options(space_option, set_option)
@click.option(
    "--address", required=True, metavar="URL", help="The cluster's dashboard: http://HEAD:8265."
)
@click.option(
    "--store",
    envvar=VARIABLES["store"],
    show_envvar=True,
    metavar="DIR|URL",
    shell_complete=complete_folder,
    help="A folder that all nodes share, by its absolute path, or a URL (s3://...).",
)
@options(working_dir_option)
@click.option("--no-wait", is_flag=True, help="Return at once; by default its output is followed.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF SEARCH]")
@click.pass_context
def submit(
    context: click.Context,
    space_file: Path,
    overrides: tuple[str, ...],
    address: str,
    store: str | None,
    working_dir: Path | None,
    no_wait: bool,
    more: tuple[str, ...],
) -> None:
    """Send a search to a Ray cluster as a job.

    It runs there by itself: Ctrl-C leaves it running. Takes the options of sqtune search too;
    with a store under a URL it needs --study-storage and --tracking-uri.

    \b
    sqtune submit --space my.yaml --address http://HEAD:8265 --store /shared/store
    sqtune submit --space my.yaml --address http://HEAD:8265 \\
      --store /shared/store --working-dir .
    """
    from sqtune.config import load_space

    at = [] if store is None else ["--store", store]
    arguments = [*at, *more, *(text for change in overrides for text in ("--set", change))]
    parsed = search.make_context(
        "search", ["--space", str(space_file), *arguments], default_map=context.default_map
    )
    if "--address" in more or "--working-dir" in more:
        raise ConfigError(
            "sqtune submit: --address and --working-dir stand once. Leave out the second."
        )
    space = load_space(space_file, overrides)
    places = {name: parsed.params[name] for name in PASSED if parsed.params[name]}
    _check(places)
    from sqtune.search.jobs import Jobs

    jobs = Jobs(address)
    name = parsed.params["name"] or space.name
    job = f"sqtune-{time.strftime('%Y%m%d-%H%M%S')}-{_plain(name)}"
    with tempfile.TemporaryDirectory(prefix="sqtune-submit-") as folder:
        sent = working_dir or Path(folder)
        inside = _inside(space_file, sent, copies=working_dir is None)
        command = ["python", "-m", "sqtune", "search", "--space", inside, "--address", "auto"]
        named = [text for key, value in places.items() for text in (_option(key), value)]
        rest = _without(arguments, [_option(key) for key in PASSED])
        jobs.submit(shlex.join([*command, *named, *rest]), job, sent)
    click.echo(f"submitted {job}", err=True)
    afterwards = _afterwards(address, job, name, places)
    if no_wait:
        click.echo(afterwards, err=True)
        return
    try:
        succeeded = jobs.follow(job, lambda text: click.echo(text, nl=False))
    except ClusterError:
        click.echo(f"the search goes on if the cluster does. {afterwards}", err=True)
        raise
    except KeyboardInterrupt:
        click.echo(f"the search goes on. {afterwards}", err=True)
        return
    if not succeeded:
        sys.exit(1)


def _check(places: dict[str, str]) -> None:
    """Refuse a store that only the job would see, and passwords in what the dashboard shows."""
    store = places["store"]
    if is_url(store):  # the cluster may reach it where this machine cannot
        for key in ("study_storage", "tracking_uri"):
            if key not in places:
                raise ConfigError(
                    f"--store {store}: under a URL there is no place for a database. Give "
                    f"{_option(key)} (or {VARIABLES[key]}) too."
                )
    elif store == DEFAULT_STORE or not Path(store).is_absolute():
        raise ConfigError(
            f"--store {store} would lie in the job's own folder and be lost with it. Give a folder "
            "that all nodes share, by its absolute path."
        )
    for key, value in places.items():
        if re.match(r"sqlite:///[^/]|file:[^/]|\.|(?!databricks$)[^:/]+(/|$)", value):
            raise ConfigError(
                f"{_option(key)} {value} would lie in the job's own folder and be lost with it. "
                "Give an absolute path, or a server's URL."
            )
        if without_password(value) != value:
            raise ConfigError(
                f"{_option(key)} (or {VARIABLES[key]}) holds a password, which the dashboard would "
                f"show. {SECRETS}"
            )


def _inside(space_file: Path, folder: Path, *, copies: bool) -> str:
    """Return the space file's path within what is sent; copies it there if that is asked for."""
    if copies:
        shutil.copy(space_file, folder / space_file.name)
        return space_file.name
    try:
        return space_file.resolve().relative_to(folder).as_posix()
    except ValueError:
        raise ConfigError(
            f"--space {space_file} does not lie in --working-dir {folder}, which is all that the "
            "cluster gets. Move it there, or name a folder that holds both."
        ) from None


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _without(arguments: list[str], names: list[str]) -> list[str]:
    """Return arguments without these options and their values."""
    left, skip = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif not (equals and name in names):
            left.append(argument)
    return left


def _plain(name: str) -> str:
    """Return a name with nothing in it that a URL would have to escape."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:40]


def _afterwards(address: str, job: str, study: str, places: dict[str, str]) -> str:
    shown = [(key, places[key]) for key in ("store", "study_storage") if key in places]
    at = "".join(f" {_option(key)} {shlex.quote(value)}" for key, value in shown)
    name = shlex.quote(study)
    return (
        f"Follow it: ray job logs --follow --address {shlex.quote(address)} {job}; look: sqtune "
        f"show {name}{at}; end it: sqtune stop {name}{at}, both where the store can be seen."
    )

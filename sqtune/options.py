"""What all commands share: options, and errors as one message with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from sqtune.errors import ConfigError, SqtuneError
from sqtune.settings import VARIABLES, settings
from sqtune.store import DEFAULT_STORE

Command = TypeVar("Command", bound=Callable[..., Any])

Unit = Literal["size", "share", "time"]

INTERRUPTED = 130
AFTER = {  # Ctrl-C, by command
    "search": "the same command goes on from what is stored",
    "confirm": "the same command goes on from what is stored",
    "train": "nothing was saved: the same command starts over",
}


class Commands(click.Group):
    """Prints our errors as one message with exit code 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        try:
            ctx.default_map = dict.fromkeys(self.commands, settings())
            return super().invoke(ctx)
        except SqtuneError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except (KeyboardInterrupt, click.Abort):
            click.echo(f"interrupted; {AFTER.get(ctx.invoked_subcommand or '', 'done')}", err=True)
            sys.exit(INTERRUPTED)


def options(*given: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command several options, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


def with_unit(unit: Unit) -> Callable[..., Any]:
    """Return a callback that turns an option's text into a number."""

    def parse(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
        del ctx
        if text is None:
            return None
        from sqtune.config import units

        try:
            match unit:
                case "size":
                    return units.parse_size(text)
                case "share":
                    return units.parse_share(text)
                case "time":
                    return units.parse_duration(text)
        except ValueError as error:
            raise ConfigError(f"{option.opts[0]}: {error}") from None

    return parse


store_option = click.option(
    "--store",
    envvar=VARIABLES["store"],
    show_envvar=True,
    default=DEFAULT_STORE,
    show_default=True,
    metavar="DIR|URL",
    help="Folder that holds studies, networks and the tracking database. Under a URL (s3://...) "
    "studies and records are in databases: --study-storage, --tracking-uri.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else."
)
quiet_option = click.option(
    "--quiet", "-q", is_flag=True, help="Show errors and the final result, nothing while it runs."
)
run_factory_option = click.option(
    "--run-factory",
    is_flag=True,
    help="Run the code that the files name, where a network of one's own was built by it.",
)
study_storage_option = click.option(
    "--study-storage",
    envvar=VARIABLES["study_storage"],
    show_envvar=True,
    metavar="URL",
    help="Optuna database for the study; by default a file in the store.",
)
tracking_option = click.option(
    "--tracking-uri",
    envvar=VARIABLES["tracking_uri"],
    show_envvar=True,
    metavar="URI",
    help="MLflow tracking URI; by default a database in the store.",
)


offline_option = click.option(
    "--offline",
    is_flag=True,
    help="Search although MLflow's server does not answer; what it misses is written when it is "
    "back, or when the same command goes on.",
)


def _unless_local(ctx: click.Context, option: click.Parameter, text: str | None) -> str | None:
    del ctx, option
    return None if text == "local" else text


address_option = click.option(
    "--address",
    envvar=VARIABLES["address"],
    show_envvar=True,
    metavar="auto|HOST:PORT",
    callback=_unless_local,
    help="Train on this Ray cluster, of which this machine is a part; by default local: here.",
)
working_dir_option = click.option(
    "--working-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Folder that the cluster's workers get a copy of, and import from (a factory's code).",
)
places_options = (store_option, study_storage_option, tracking_option)
cluster_options = (address_option, working_dir_option)
max_size_option = click.option(
    "--max-size",
    metavar="SIZE",
    callback=with_unit("size"),
    help="Largest size, such as 64KiB or 20kB.",
)
max_error_option = click.option(
    "--max-error",
    metavar="SHARE",
    callback=with_unit("share"),
    help="Largest validation error, such as 2% or 0.02: the smallest network within it.",
)
space_option = click.option(
    "--space", "space_file", required=True, metavar="FILE", type=Path, help="The space file (YAML)."
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override a value of the space file, for example trial.num_epochs=2. May be repeated.",
)

"""What all commands share: options, and errors as one message with exit code 2."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import click

from sqtune.completion import complete_file, complete_folder, complete_path, complete_study
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


GROUPS = {  # of commands, in the help
    "Search": ("new", "plan", "search", "confirm", "compare", "train", "stop"),
    "Understand": ("show", "best", "report", "logs", "ui"),
    "Take away": ("export", "verify", "predict"),
    "Clusters": ("submit",),
    "House-keeping": ("doctor", "store", "schema", "completion"),
}


class Commands(click.Group):
    """Prints our errors as one message with exit code 2, without a traceback."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, group by group."""
        del ctx
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                known = [self.commands[name] for name in names if name in self.commands]
                formatter.write_dl(
                    [(f"{each.name:<{width}}", each.get_short_help_str(70)) for each in known]
                )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take options that stand before a command."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _refuse(_usage_text(error))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        try:
            ctx.default_map = dict.fromkeys(self.commands, settings())
            return super().invoke(ctx)
        except SqtuneError as error:
            _refuse(str(error))
        except click.UsageError as error:
            _refuse(_usage_text(error))
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever reads has enough
                raise
            _refuse(
                f"{error.filename or 'what is written'}: {error.strerror or error}. Mend that, or "
                "name another place (--store, --out)."
            )
        except (KeyboardInterrupt, click.Abort):
            click.echo(f"interrupted; {AFTER.get(ctx.invoked_subcommand or '', 'done')}", err=True)
            sys.exit(INTERRUPTED)


def _refuse(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(2)


def _usage_text(error: click.UsageError) -> str:
    """Return what click has to say on one line, with the command and the way to its help."""
    path = "sqtune" if error.ctx is None else error.ctx.command_path
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message.replace("a valid integer range", "a whole number")
    end = "" if message.endswith("?") else "."
    return f"{path}: {message}{end} See: {path} --help"


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


concurrent_option = click.option(
    "--concurrent",
    type=click.IntRange(min=1),
    help="Train at most so many trials at the same time (search.max_concurrent).",
)
study_argument = click.argument("name", required=False, shell_complete=complete_study)
store_option = click.option(
    "--store",
    envvar=VARIABLES["store"],
    show_envvar=True,
    default=DEFAULT_STORE,
    show_default=True,
    metavar="DIR|URL",
    shell_complete=complete_folder,
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
    help="Largest size, such as 64KiB or 20kB; a bare number: bytes.",
)
max_error_option = click.option(
    "--max-error",
    metavar="SHARE",
    callback=with_unit("share"),
    help="Largest validation error, such as 2% or 0.02: the smallest network within it.",
)
space_option = click.option(
    "--space",
    "space_file",
    required=True,
    metavar="FILE",
    type=Path,
    shell_complete=complete_file,
    help="The space file (YAML).",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    shell_complete=complete_path,
    help="Override a value of the space file, for example trial.num_epochs=2. May be repeated.",
)

"""`sqtune new`: a space file to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sqtune.completion import complete_file, complete_space
from sqtune.errors import ConfigError, did_you_mean
from sqtune.next_steps import say_next
from sqtune.options import json_option, options
from sqtune.output import console, print_json
from sqtune.shipped import BEGIN, about, spaces, text_for

LIST = "sqtune new --list"


@click.command()
@click.argument("file", type=Path, required=False, shell_complete=complete_file)
@click.option(
    "--from",
    "name",
    default="resnet",
    show_default=True,
    metavar="SPACE",
    shell_complete=complete_space,
    help="The space file that comes with sqtune and is copied.",
)
@click.option("--list", "as_list", is_flag=True, help="Say which there are, and write nothing.")
@options(json_option)
def new(file: Path | None, name: str, as_list: bool, as_json: bool) -> None:
    """Write a commented space file to begin with.

    A file that is there already is left alone.

    \b
    sqtune new my-space.yaml
    sqtune new --list
    sqtune new my-space.yaml --from cifar10_resnet20
    """
    known = spaces()
    if as_list:
        _list(list(known), as_json)
        return
    if file is None:
        raise ConfigError(f"Give the file that is to be written: {BEGIN}. See also: {LIST}")
    if name not in known:
        raise ConfigError(
            f'--from {name}: no space file of sqtune is called "{name}". '
            f"{did_you_mean(name, known)} All, with what they are: {LIST}"
        )
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text_for(name, file))
    except FileExistsError:
        raise ConfigError(f"{file}: exists already. Give another path.") from None
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written: {error.strerror}. Give another path."
        ) from None
    if as_json:
        print_json({"space": str(file.absolute()), "from": name})
        return
    out, typed = console(), shlex.quote(str(file))
    out.print(f"space     {file}, as {name}", highlight=False, markup=False, soft_wrap=True)
    say_next(out, {f"sqtune plan --space {typed}": "what it costs, once you have changed it"})


def _list(names: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"spaces": {name: about(name) for name in names}})
        return
    out, width = console(), max(map(len, names))
    for name in names:
        out.print(f"{name:<{width}}  {about(name)}", highlight=False, markup=False, soft_wrap=True)
    say_next(out, {f"{BEGIN} --from {names[0]}": "a copy, to be changed"})

"""What shells complete: names of studies, numbers of trials, files, paths of `--set`.

Asked at every press of the tab key, so nothing here imports Optuna or torch, and nothing is raised.
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from sqtune.errors import SqtuneError
from sqtune.files import folder_of, is_url
from sqtune.settings import settings
from sqtune.shipped import spaces
from sqtune.store import DEFAULT_STORE, Store, file_name

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SQTUNE_COMPLETE"
CREATED = b'{"op_code":0,'  # how a line of Optuna's journal begins that makes a study
CONFIRMS = b'"user_attr":{"confirms":'  # in a line that says of a study that it confirms another
UNREADABLE = (OSError, ValueError, LookupError, SqtuneError)
Completer = Callable[[click.Context, click.Parameter, str], Iterable[str | CompletionItem]]


def _beginning(complete: Callable[[click.Context], Iterator[str]]) -> Completer:
    """Make a completer of what yields all there is; the shell gets what begins as was typed."""

    def completer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        del param
        found: list[str] = []
        with contextlib.suppress(*UNREADABLE):
            found.extend(text for text in complete(ctx) if text.startswith(incomplete))
        return found

    return completer


@_beginning
def complete_study(ctx: click.Context) -> Iterator[str]:
    """Yield the names of the store's studies, the newest first."""
    yield from reversed(names(_store(ctx)))


@_beginning
def complete_trial(ctx: click.Context) -> Iterator[str]:
    """Yield the numbers of trials that have a log: of the study named before, else the latest.

    The latest is no confirmation of another one, as commands have it.
    """
    store = _store(ctx)
    logs = store.root / "logs"
    given = [ctx.params.get("name"), *ctx.args]  # click leaves it there before a bare --trial
    if name := next(filter(None, given), None):
        study = logs / file_name(name)
    else:
        confirming = confirmations(store) if store.journal.exists() else set()
        of_searches = (each for each in logs.iterdir() if each.name not in confirming)
        study = max(of_searches, key=lambda path: path.stat().st_mtime)
    yield from (str(int(path.stem)) for path in sorted(study.glob("*.log")))


@_beginning
def complete_path(ctx: click.Context) -> Iterator[str]:
    """Yield the dotted paths of a space file, to be followed by a value."""
    del ctx
    from sqtune.config.schema import space_file_schema

    schema = space_file_schema()
    yield from (f"{path}=" for path in dict.fromkeys(_paths(schema, schema["$defs"])))


@_beginning
def complete_space(ctx: click.Context) -> Iterator[str]:
    """Yield the names of the space files that come with sqtune."""
    del ctx
    yield from spaces()


def complete_folder(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a folder."""
    del ctx, param
    return [CompletionItem(incomplete, type="dir")]


def complete_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a file."""
    del ctx, param
    return [CompletionItem(incomplete, type="file")]


def names(store: Store) -> list[str]:
    """Return the names of a store's studies, in the order in which they were begun.

    Raises:
        OSError or ValueError: It has none.
    """
    return [line["study_name"] for line in _lines(store, CREATED)]


def confirmations(store: Store) -> set[str]:
    """Return the file names of a store's studies that confirm others.

    Raises:
        OSError or ValueError: It has no studies.
    """
    known = names(store)  # Optuna numbers them as they were begun
    return {file_name(known[line["study_id"]]) for line in _lines(store, CONFIRMS)}


def _lines(store: Store, part: bytes) -> Iterator[dict[str, Any]]:
    """Yield the lines of the journal that have a part, read."""
    with (
        store.journal.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as journal,
    ):
        at = 0
        while (at := journal.find(part, at)) >= 0 and (end := journal.find(b"\n", at)) >= 0:
            yield json.loads(journal[journal.rfind(b"\n", 0, at) + 1 : end])
            at = end


def script(command: click.Command, shell: str) -> str:
    """Return the script by which a shell completes `sqtune`."""
    kind = get_completion_class(shell)
    assert kind is not None, shell
    return kind(command, {}, "sqtune", VARIABLE).source()


def _store(ctx: click.Context) -> Store:
    """Return the store that is meant; one under a URL is not asked, that would take too long."""
    place = ctx.params.get("store") or DEFAULT_STORE
    typed = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    if ctx.get_parameter_source("store") not in typed:
        place = settings().get("store", place)
    if is_url(place):
        raise ValueError(place)
    return Store(folder_of(place).absolute())


def _paths(node: dict[str, Any], defs: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the dotted paths of all fields that hold no fields themselves."""
    if "$ref" in node:
        node = defs[node["$ref"].rpartition("/")[2]]
    for kind in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        if "$ref" in kind or "properties" in kind:
            yield from _paths(kind, defs, before)
    for name, field in node.get("properties", {}).items():
        path = f"{before}.{name}" if before else name
        deeper = list(_paths(field, defs, path))
        yield from deeper or [path]


@add_completion_class
class Bash(BashComplete):
    """Bash's, which leaves names with blanks whole and quotes them, and stays behind a "="."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)",
        'COMPREPLY+=("$value")\n'
        "            [[ $value == *= ]] && compopt -o nospace\n"
        "            [[ $value == *[^A-Za-z0-9_=.-]* ]] && compopt -o filenames",
    )


@add_completion_class
class Zsh(ZshComplete):
    """Zsh's, which stays behind a "="."""

    source_template = ZshComplete.source_template.replace(
        'completions+=("$key")',
        '[[ "$key" == *= ]] && compadd -U -S "" -- "$key" || completions+=("$key")',
    )

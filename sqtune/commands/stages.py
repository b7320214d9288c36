"""`sqtune store`: what the store holds, and room made in it."""

from __future__ import annotations

import time
from typing import Any

import click

from sqtune.completion import complete_folder
from sqtune.errors import StoreError
from sqtune.next_steps import say_next, typed
from sqtune.options import json_option, options, store_option, with_unit
from sqtune.output import console, print_json
from sqtune.store import Store

NEAR = 0.8  # of what stages may take by default: time to make room

stages_option = click.option(
    "--stages",
    metavar="URL",
    shell_complete=complete_folder,
    help="Folder or URL of the stages; by default in the store.",
)


@click.group(invoke_without_command=True)
@options(store_option, stages_option, json_option)
@click.pass_context
def store(context: click.Context, store: str, stages: str | None, as_json: bool) -> None:
    """Show what the store holds; `store prune` makes room in it.

    \b
    sqtune store
    sqtune store prune --max-size 2GiB
    """
    context.obj = (store, stages, as_json)
    if context.invoked_subcommand is None:
        places = Store.at(store)
        if stages is None and places.url is None and not places.root.exists():
            raise StoreError(f"there is no store in {places.root}. Give --store another folder.")
        _show(places, stages, as_json)


@store.command()
@click.option(
    "--max-size",
    callback=with_unit("size"),
    required=True,
    metavar="SIZE",
    help="What stages may take, such as 2GiB; 1B removes all.",
)
@options(
    click.option(
        "--store", metavar="DIR", shell_complete=complete_folder, help="As of sqtune store."
    ),
    stages_option,
    json_option,
)
@click.pass_context
def prune(
    context: click.Context, max_size: int, store: str | None, stages: str | None, as_json: bool
) -> None:
    """Remove the stages used longest ago until the rest fits.

    Networks are never touched.

    \b
    sqtune store prune --max-size 2GiB
    sqtune store prune --max-size 1B --stages s3://bucket/stages
    """
    outer_store, outer_stages, outer_json = context.obj  # options before the word prune
    as_json = as_json or outer_json
    opened = _open(Store.at(store or outer_store), stages or outer_stages)
    before = sum(entry.size_bytes for entry in opened.entries())
    removed = opened.prune(max_size)
    after = sum(entry.size_bytes for entry in opened.entries())
    if as_json:
        print_json({"removed": len(removed), "bytes_before": before, "bytes_after": after})
    else:
        out = console()
        out.print(
            f"removed {len(removed)} checkpoints: {_size(before)} -> {_size(after)}",
            highlight=False,
            soft_wrap=True,
        )
        say_next(out, {f"sqtune store{typed('store', 'stages')}": "what it holds now"})


def _open(places: Store, stages: str | None) -> Any:
    from sqtune.config.options import StageOptions
    from sqtune.train.stage_store import StageStore

    return StageStore(stages or places.stages, StageOptions().max_size)


def _show(places: Store, stages: str | None, as_json: bool) -> None:
    opened = _open(places, stages)
    entries = opened.entries()
    content = {
        "store": places.place,
        "stages": len(entries),
        "stage_bytes": sum(entry.size_bytes for entry in entries),
        "oldest_use_days": max(
            ((time.time() - entry.used_at) / 86400 for entry in entries), default=0.0
        ),
        "network_bytes": places.size(places.networks),
        "data_bytes": places.size(places.data),
    }
    if places.url is None:  # elsewhere both are databases
        tracked = (places.artifacts, places.root / "mlflow.db")
        content["tracking_bytes"] = sum(map(places.size, tracked))
        content["study_bytes"] = places.size(places.journal)
    if as_json:
        print_json(content)
        return
    out = console()
    out.print(f"store     {places.place}", highlight=False, soft_wrap=True)
    days = content["oldest_use_days"]
    used = f", the oldest used {_ago(days)}" if entries else ""
    for what, text in (
        ("stages", f"{_size(content['stage_bytes'])} in {content['stages']} checkpoints{used}"),
        ("networks", f"{_size(content['network_bytes'])}, never removed"),
        ("data", _size(content["data_bytes"])),
        ("tracking", _size(content.get("tracking_bytes"))),
        ("studies", _size(content.get("study_bytes"))),
    ):
        out.print(f"{what:<9} {text}", highlight=False, soft_wrap=True)
    at = typed("store", "stages")
    if content["stage_bytes"] > NEAR * opened.max_size:
        half = _size(content["stage_bytes"] // 2).replace(" ", "")
        say_next(out, {f"sqtune store{at} prune --max-size {half}": "make room"})
    elif places.url is None and places.journal.exists():
        say_next(out, {f"sqtune show{typed('store')}": "the study searched last"})


def _ago(days: float) -> str:
    """Return when something was.

    >>> _ago(0.01), _ago(0.05), _ago(30.2)
    ('within the last hour', '1 hour ago', '30 days ago')
    """
    from sqtune.search.wording import plural

    hours = 24 * days
    if hours < 1:
        return "within the last hour"
    return f"{plural(round(hours), 'hour') if hours < 48 else plural(round(days), 'day')} ago"


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "in a database elsewhere"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes / 2**10:.1f} KiB"

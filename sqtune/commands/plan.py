"""`sqtune plan`: what a search will cost, before it costs anything."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sqtune.next_steps import say_next, space_typed, typed
from sqtune.options import json_option, options, set_option, space_option, store_option
from sqtune.output import console, print_json, print_plan
from sqtune.store import Store


@click.command()
@options(space_option, set_option, store_option, json_option)
def plan(space_file: Path, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Say what a search will cost and what fits, before it trains.

    Of a comparison, what `sqtune compare` will cost with three seeds.

    \b
    sqtune plan --space search_spaces/resnet.yaml
    sqtune plan --space my.yaml --set search.num_trials=100 --json
    """
    from sqtune.config import load_space
    from sqtune.config.compared import DEFAULT_SEEDS, comparison_space

    places = Store.at(store)
    space = load_space(space_file, overrides)
    compared = space.compare is not None
    if compared:
        space = comparison_space(space, DEFAULT_SEEDS)
    from sqtune.data.prepare import prepare
    from sqtune.search.plan import plan as make_plan

    folder = places.data if places.root.is_dir() else None
    made = make_plan(space, lambda data: prepare(data, folder))
    if as_json:
        print_json({"space": space.name, **asdict(made)})
        return
    out, again = console(), f"{space_typed(space_file, overrides)}{typed('store')}"
    print_plan(out, space, made)
    if compared:
        say_next(out, {f"sqtune compare{again}": "train the methods, seed by seed"})
    else:
        say_next(out, {f"sqtune search{again}": "search; the same command again goes on"})

"""`sqtune compare`: fixed methods, each with the same seeds, beside what was published."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqtune.completion import complete_folder, complete_study
from sqtune.next_steps import say_next, space_typed, typed
from sqtune.options import (
    INTERRUPTED,
    cluster_options,
    concurrent_option,
    json_option,
    offline_option,
    options,
    places_options,
    quiet_option,
    set_option,
    space_option,
)
from sqtune.output import check_new_folder, console, print_ending, print_json
from sqtune.report import page_maker
from sqtune.store import Store

UNLIMITED = 10_000  # columns, to ask how wide a table would be

if TYPE_CHECKING:
    from rich.console import Console

    from sqtune.config.space import SearchSpace
    from sqtune.search.compare import Row
    from sqtune.search.study import Study
    from sqtune.tracking import Tracker


@click.command()
@options(space_option, set_option)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Train each method with so many seeds.",
)
@options(concurrent_option)
@click.option(
    "--name",
    shell_complete=complete_study,
    help="Name of the comparison; by default the space file's.",
)
@click.option(
    "--out",
    type=Path,
    metavar="DIR",
    shell_complete=complete_folder,
    help="Also write table and chart to this new folder.",
)
@options(*places_options, offline_option, *cluster_options, quiet_option, json_option)
def compare(
    space_file: Path,
    overrides: tuple[str, ...],
    seeds: int,
    concurrent: int | None,
    name: str | None,
    out: Path | None,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    offline: bool,
    address: str | None,
    working_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train fixed methods with several seeds and print their table.

    Each is trained at the paper's budget and at equal ones, as `compare.budgets` says. The same
    command again goes on; with more seeds, or other budgets, it adds them. A space file to begin
    with: "sqtune new methods.yaml --from compare_digits".

    \b
    sqtune compare --space methods.yaml --seeds 5
    sqtune compare --space methods.yaml --set trial.num_epochs=10 --out table
    """
    from sqtune.config import load_space
    from sqtune.config.compared import comparison_space

    more = [] if concurrent is None else [f"search.max_concurrent={concurrent}"]
    told = {} if name is None else {f"name={json.dumps(name)}": f"--name {json.dumps(name)}"}
    compared = load_space(space_file, [*overrides, *more, *told], told)
    space = comparison_space(compared, seeds)
    if out is not None:
        check_new_folder(out)
    from sqtune.search.outcome import Places
    from sqtune.search.progress import Progress
    from sqtune.search.run import run_search

    places = Places(Store.at(store), study_storage, tracking_uri, address, working_dir, offline)
    progress = Progress(console(to_stderr=as_json), quiet)
    finisher = _Finisher(compared, seeds, places.store)
    text = json.dumps(space.model_dump(mode="json", by_alias=True), indent=1)
    outcome = run_search(
        space,
        text,
        places,
        progress,
        marks={"compares": True},
        finish=finisher.finish,
        page=page_maker(typed("store", "study_storage")),
    )
    rows = finisher.rows
    if out is not None and finisher.files:
        out.mkdir(parents=True, exist_ok=True)
        for file, content in finisher.files.items():
            (out / file).write_bytes(content)
    folder = (out or places.store.comparison(space.name)).absolute()
    if as_json:
        print_json(
            {
                "study": outcome.study,
                "ending": outcome.ending,
                "num_seeds": seeds,
                "methods": [row.as_data() for row in rows],
                "folder": str(folder) if finisher.files else None,
            }
        )
    elif rows:
        _print(progress.console, compared, rows, seeds, folder)
        at = typed("store", "study_storage", "tracking_uri")
        again = f"{space_typed(space_file, overrides)} --seeds {seeds + 2}{typed('name')}{at}"
        page = f"sqtune report {shlex.quote(outcome.study)}{typed('store', 'study_storage')}"
        say_next(
            progress.console,
            {f"sqtune compare{again}": "adds two seeds", page: "what was found, on one page"},
        )
    print_ending(outcome)
    if outcome.ending == "interrupted":
        sys.exit(INTERRUPTED)
    measured = [bool(cell.test_errors) for row in rows for cell in row.cells.values()]
    if not any(measured) or (outcome.ending == "complete" and not all(measured)):
        sys.exit(1)


class _Finisher:
    """What is done once a comparison's trainings have ended: measure, write down, record.

    Args:
        space: What is compared.
        num_seeds: Trainings of each method at each budget.
        store: Where results are kept.
    """

    def __init__(self, space: SearchSpace, num_seeds: int, store: Store) -> None:
        self._space, self._num_seeds, self._store = space, num_seeds, store
        self.rows: list[Row] = []
        self.files: dict[str, bytes] = {}

    def finish(self, study: Study, tracker: Tracker) -> None:
        """Measure every network on the test split, once; write table and chart."""
        from sqtune.search.compare import rows
        from sqtune.search.compare_chart import chart
        from sqtune.search.compare_table import markdown
        from sqtune.search.record import measure_test_error

        for trial in study.trials():
            if trial.val_error is not None and trial.test_error is None:
                measure_test_error(study, trial, self._store)
        trials = study.trials()
        self.rows = rows(self._space, self._num_seeds, trials)
        num_epochs, title = self._space.config({}).num_epochs, self._space.name
        facts = _facts(study.attrs["provenance"], sum(trial.seconds for trial in trials))
        table = markdown(title, self.rows, num_epochs, self._num_seeds, facts)
        data = {"name": title, "num_epochs": num_epochs, "num_seeds": self._num_seeds, **facts}
        data["methods"] = [row.as_data() for row in self.rows]
        self.files = {
            "compare.md": table.encode(),
            "compare.json": json.dumps(data, indent=1).encode(),
            "compare.svg": chart(title, self.rows, num_epochs, "svg"),
            "compare.png": chart(title, self.rows, num_epochs, "png"),
        }
        folder = self._store.comparison(study.name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        self._store.share(folder)
        texts = ("compare.md", "compare.json", "compare.svg")
        tracker.log_texts({name: self.files[name].decode() for name in texts})


def _facts(provenance: dict[str, str], seconds: float) -> dict[str, Any]:
    """Return what a comparison was measured with."""
    return {**provenance, "training hours, summed": f"{seconds / 3600:.2f}"}


def _print(out: Console, space: SearchSpace, rows: list[Row], num_seeds: int, folder: Path) -> None:
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table

    from sqtune.search.compare_table import body, failures, header, legend, stacked, verdicts

    num_epochs = space.config({}).num_epochs
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(header(rows, num_epochs)):
        table.add_column(column, justify="right" if index else "left")
    for cells in body(rows, num_seeds):
        table.add_row(*cells)
    lines = legend(rows, num_seeds)
    if Measurement.get(out, out.options.update(width=UNLIMITED), table).maximum <= out.width:
        out.print(table)
    else:
        lines = [*stacked(rows, num_epochs, num_seeds), *lines]
    lines += [f"lead      {line}" for line in verdicts(rows, num_epochs)]
    lines += [f"failed    {line}" for line in failures(rows, num_epochs)]
    for line in [*lines, f"written   {folder}: compare.md, .json, .svg, .png"]:
        out.print(line, highlight=False, soft_wrap=True)

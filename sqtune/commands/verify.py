"""`sqtune verify`: whether an exported folder is still what it was when it was proven."""

from __future__ import annotations

from pathlib import Path

import click

from sqtune.completion import complete_folder
from sqtune.next_steps import after_export, say_next
from sqtune.options import json_option, options, run_factory_option
from sqtune.output import console, print_json


@click.command()
@click.argument("folder", type=Path, metavar="DIR", shell_complete=complete_folder)
@options(run_factory_option, json_option)
def verify(folder: Path, run_factory: bool, as_json: bool) -> None:
    """Check that an exported folder is as it was proven.

    Checksums, every code and scale, and predictions. Needs nothing of the search that made it.
    With numpy and onnxruntime alone: python -m sqtune.deploy.checking DIR.

    \b
    sqtune verify deployed
    sqtune verify deployed --json
    """
    from sqtune.deploy.verify import verify_folder

    report = verify_folder(folder, run_factory=run_factory)
    if as_json:
        print_json(report.as_data())
        return
    out = console()
    for line in [*report.lines, f"{folder} is as it was exported"]:
        out.print(line, highlight=False, soft_wrap=True)
    say_next(out, after_export(folder, report.form))

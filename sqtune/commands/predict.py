"""`sqtune predict`: class names and probabilities of images."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sqtune.completion import complete_file, complete_folder
from sqtune.errors import DataError
from sqtune.next_steps import deployed, say_next
from sqtune.options import json_option, options, run_factory_option
from sqtune.output import console, print_json


@click.command()
@click.argument("folder", metavar="DIR", type=Path, shell_complete=complete_folder)
@click.argument(
    "images",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=Path,
    shell_complete=complete_file,
)
@click.option(
    "--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes per image."
)
@options(run_factory_option, json_option)
def predict(
    folder: Path, images: tuple[Path, ...], top: int, run_factory: bool, as_json: bool
) -> None:
    """Name the most probable classes of images.

    DIR is an exported folder, of any form but c, or that of a trained network. An IMAGE is a file,
    or a folder of images. Each is brought to the network's size as the training images were. One
    that cannot be read is named, the others are predicted, and the exit code is 2.

    \b
    sqtune predict out cat.png dog.jpg
    sqtune predict out photos --top 1
    sqtune predict sqtune-store/networks/resnet/00007 photos --json
    """
    from sqtune.deploy.predict import find_images, open_classifier
    from sqtune.deploy.predict import predict as predictions

    files = find_images(images)
    classifier = open_classifier(folder, run_factory=run_factory)
    found: list[dict[str, Any]] = []
    out = console(to_stderr=as_json)
    width = max(len(str(path)) for path in files)
    unreadable: list[dict[str, str]] = []

    def name_unreadable(path: Path, error: DataError) -> None:
        click.echo(f"error: {error}", err=True)
        unreadable.append({"image": str(path), "error": str(error)})

    for each in predictions(classifier, files, top, name_unreadable):
        if as_json:
            named = [{"class": name, "probability": chance} for name, chance in each.top]
            found.append({"image": str(each.image), "top": named})
        else:
            named_text = "   ".join(f"{name} {100 * chance:.1f} %" for name, chance in each.top)
            out.print(f"{each.image!s:{width}}   {named_text}", highlight=False, soft_wrap=True)
    if as_json:
        about = {"network": str(folder), "form": classifier.form}
        print_json({**about, "images": found, "unreadable": unreadable})
    if unreadable:
        sys.exit(2)
    if as_json:
        return
    if (readme := folder / "README.md").is_file():
        steps = {f"cat {shlex.quote(str(readme))}": "how to run it elsewhere"}
    else:
        command = f"sqtune export --network {shlex.quote(str(folder))}{deployed()}"
        steps = {command: "it as a packed file, proven"}
    say_next(console(to_stderr=True), steps)  # stdout has a line per image, no more

"""`sqtune report`: a study on one page that opens anywhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqtune.errors import TrackingError
from sqtune.next_steps import typed
from sqtune.options import json_option, options, places_options, study_argument
from sqtune.output import check_new_folder, console, print_json
from sqtune.store import Store, file_name

if TYPE_CHECKING:
    from sqtune.search.study import Study


@click.command()
@study_argument
@click.option("--out", type=Path, metavar="FILE", help="The page to write; by default NAME.html.")
@click.option(
    "--png", "pictures", type=Path, metavar="DIR", help="Also write each chart into this folder."
)
@click.option("--force", is_flag=True, help="Replace also another study's page.")
@options(*places_options, json_option)
def report(
    name: str | None,
    out: Path | None,
    pictures: Path | None,
    force: bool,
    store: str,
    study_storage: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Write a study as one HTML page that opens anywhere.

    It says what was found, how sure that is, and why. It loads nothing: it works offline, from a
    mail and on a phone. It takes the place of an earlier one of the study, and is also logged to
    the study's MLflow run, as report/report.html.

    \b
    sqtune report
    sqtune report resnet --out resnet.html
    sqtune report resnet --png charts
    """
    from sqtune.search.look import load_study

    study, trials = load_study(store, study_storage, name)
    page_file = out or Path(f"{file_name(study.name)}.html")
    from sqtune.report import files

    uuid = study.attrs["uuid"]
    files.refuse_taken(page_file, uuid, force=force)
    if pictures is not None and not files.has_pictures_of(uuid, pictures):
        check_new_folder(pictures, "--png")
    from sqtune.report.charts import charts_of
    from sqtune.report.facts import gather
    from sqtune.report.finding import finding
    from sqtune.report.page import page

    places = Store.at(store)
    found = gather(study, trials, places, typed("store", "study_storage"))
    charts = charts_of(found)
    text = page(found, charts)
    files.write(page_file, text)
    written = [] if pictures is None else files.write_pictures(pictures, charts.all(), uuid)
    logged = _log(tracking_uri, places, study, text)
    if as_json:
        print_json(
            {
                "study": study.name,
                "finding": finding(found),
                "report": str(page_file.absolute()),
                "bytes": page_file.stat().st_size,
                "charts": [chart.key for chart in charts.all()],
                "pictures": [str(picture.absolute()) for picture in written],
                "mlflow_run": logged,
            }
        )
        return
    lines = [finding(found), f"page      {page_file}  ({page_file.stat().st_size / 1024:,.0f} KiB)"]
    if pictures is not None:
        lines.append(f"pictures  {pictures}: {len(written)} charts")
    if logged is not None:
        lines.append(f"MLflow    report/report.html of run {logged}")
    lines.append(f"next      open {shlex.quote(str(page_file))} in a browser")
    for line in lines:
        console().print(line, highlight=False, soft_wrap=True)


def _log(tracking_uri: str | None, places: Store, study: Study, text: str) -> str | None:
    """Log the page to the study's MLflow run, where there is one; return its id."""
    from sqtune.tracking.database import tracking_uri as uri_of
    from sqtune.tracking.page import log_page

    try:
        uri = uri_of(places, tracking_uri)
        return None if uri is None else log_page(uri, study.name, study.attrs["uuid"], text)
    except TrackingError as error:
        click.echo(f"warning: {error}", err=True)
        return None

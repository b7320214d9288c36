"""The page: one HTML file with styles, script, data and charts inside. It loads nothing.

Only here is Jinja imported. It escapes whatever is put into the template; a chart's data stand in
a JSON block in which "<" is written as an escape, so that no text can end the block.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import sqtune
from sqtune.report import card
from sqtune.report.charts import Chart, Charts, charts_of
from sqtune.report.facts import Report, gather
from sqtune.report.finding import finding
from sqtune.report.render import script, svg
from sqtune.report.trials import trials_table
from sqtune.search.compare_table import body, failures, header, legend, verdicts
from sqtune.search.records import TrialRecord
from sqtune.search.view import StudyView
from sqtune.store import Store

GENERATOR = "sqtune report"  # of the meta element by which a page of ours is known


def page_of_study(
    study: StudyView, trials: Sequence[TrialRecord], store: Store, options: str = ""
) -> str:
    """Return a study as an HTML document; the arguments are those of `gather`."""
    return page(gather(study, trials, store, options))


def page(report: Report, charts: Charts | None = None) -> str:
    """Return a study as an HTML document."""
    charts = charts or charts_of(report)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["base64"] = _base64
    winner = report.winner
    template = environment.from_string(_text("page.html"))
    return template.render(
        report=report,
        generator=f"{GENERATOR} {sqtune.__version__}",
        finding=_unbroken(finding(report)),
        overview=card.overview(report),
        network=None if winner is None else card.network(report, winner),
        commands=list(card.commands(report)),
        no_importance=card.no_importance(report),
        files=card.files_to_save(report),
        stopped=card.stopped_groups(report),
        failures=card.failures(report),
        refused=card.refused(report),
        provenance=card.provenance(report),
        compared=_compared(report),
        charts=charts,
        specs={chart.key: list(chart.parts) for chart in charts.all()},
        still=_still,
        trials=trials_table(report),
        style=Markup(_text("page.css")),
        script=Markup(_text("page.js")),
        vega=Markup(script() if charts.all() else ""),
    )


def _compared(report: Report) -> dict[str, Any] | None:
    """Return the table of a comparison."""
    comparison = report.comparison
    if comparison is None:
        return None
    return {
        "header": header(comparison.rows, comparison.num_epochs),
        "body": body(comparison.rows, comparison.num_seeds),
        "legend": legend(comparison.rows, comparison.num_seeds),
        "verdicts": list(verdicts(comparison.rows, comparison.num_epochs)),
        "failures": list(failures(comparison.rows, comparison.num_epochs)),
    }


def _still(chart: Chart) -> Markup:
    """Return a chart as it looks before a script draws it, or where none may."""
    width = max(chart.still_width, chart.least_width)
    return Markup("").join(Markup(svg(part, width)) for part in chart.parts)


def _unbroken(text: str) -> str:
    """Return a text in which a figure stays with its spread and its unit in one line."""
    for before, after in ((" ± ", "\u00a0±\u00a0"), (" %", "\u00a0%"), (" KiB", "\u00a0KiB")):
        text = text.replace(before, after)
    return text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(name: str) -> str:
    return (files("sqtune.report") / name).read_text(encoding="utf-8")

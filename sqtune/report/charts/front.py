"""Error against what a network costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import altair as alt

from sqtune.report.charts.style import (
    INK,
    PAPER,
    SERIES,
    SHAPES,
    SOFT,
    Chart,
    scale,
    sized,
    spec,
)
from sqtune.report.facts import Report
from sqtune.search.pareto import standard_error
from sqtune.search.records import TrialRecord
from sqtune.search.tables import bits_text, quantizer_text
from sqtune.search.wording import count_text, kib, plural

Cost = Literal["size_bytes", "bit_operations"]
Row = dict[str, Any]
NAMES = ("binary", "ternary", "uniform", "lsq", "lsq_ternary", "several", "float")


def front_chart(report: Report) -> Chart | None:
    """Return error against size; None without a finished trial."""
    trials = [trial for trial in report.networks if trial.size_bytes is not None]
    if not trials:
        return None
    line = [_row(trial, "size_bytes") for trial in reversed(report.front)]
    confirmed = _means(report)
    rows = {
        "trials": [_row(trial, "size_bytes") for trial in trials],
        "front": [row for row in line if row],
        "confirmed": confirmed,
        "lines": list(_reference_lines(report)),
        "winner": _winner(report, "size_bytes"),
    }
    many = len(report.front) > 1
    ends = report.front[-1], report.front[0]
    assert ends[0].val_error is not None
    assert ends[1].val_error is not None
    alt_text = (
        f"Scatter plot of validation error against size of {plural(len(trials), 'network')}. "
        f"The front has {plural(len(report.front), 'network')}: from "
        f"{kib(ends[0].size_bytes)} with {100 * ends[0].val_error:.2f} % to "
        f"{kib(ends[1].size_bytes)} with {100 * ends[1].val_error:.2f} %."
    )
    caption = (
        "Each mark is a finished network: the further down the more accurate, the further left the "
        "smaller. Bars are one standard error of the validation images. "
    )
    if many:
        caption += (
            "The stepped line is the front: nothing found is both smaller and more accurate. "
        )
    if confirmed:
        caption += "Large hollow diamonds are means over new seeds, their bars the standard error of the mean. "
    if rows["lines"]:
        caption += "Dashed lines are for reference. "
    caption += "The ring is the network that this page is about."
    drawn = _scatter(rows, "size (KiB)", "KiB")
    return Chart("front", "Error against size", caption, alt_text, (spec(drawn, rows),))


def _means(report: Report) -> list[Row]:
    """Return means over new seeds; none of another budget, which would stand beside the search's.

    Their bars end above 0, which a logarithmic axis does not have.
    """
    if report.confirmed_epochs is not None:
        return []
    errors = [100 * trial.val_error for trial in report.networks if trial.val_error]
    least = min(errors + [100 * each.mean for each in report.confirmed if each.mean], default=0.0)
    return [
        {
            "cost": each.size_bytes / 1024,
            "error": 100 * each.mean,
            "low": max(100 * (each.mean - (each.standard_error or 0.0)), least / 10),
            "high": 100 * (each.mean + (each.standard_error or 0.0)),
            "trial": each.trial,
            "seeds": len(each.errors),
        }
        for each in report.confirmed
        if each.size_bytes is not None
    ]


def operations_chart(report: Report) -> Chart | None:
    """Return error against bit operations, where these are an objective."""
    trials = [trial for trial in report.networks if trial.facts.get("bit_operations")]
    if "bit_operations" not in report.space.search.objectives or not trials:
        return None
    rows: dict[str, list[Row]] = {
        "trials": [_row(trial, "bit_operations", report.on_front) for trial in trials],
        "front": [],
        "confirmed": [],
        "lines": [],
        "winner": _winner(report, "bit_operations"),
    }
    least = min(trials, key=lambda trial: trial.facts["bit_operations"])
    alt_text = (
        f"Scatter plot of validation error against bit operations of "
        f"{plural(len(trials), 'network')}; the least is "
        f"{count_text(least.facts['bit_operations'])}, of trial {least.number}."
    )
    caption = (
        "As above, against multiply-adds times the bits of both factors, for one image. Filled "
        f"marks are on the front of {' and '.join(report.space.search.objectives)}."
    )
    drawn = _scatter(rows, "bit operations (millions)", "M bit operations")
    title = "Error against bit operations"
    return Chart("operations", title, caption, alt_text, (spec(drawn, rows),))


def kind_of(trial: TrialRecord) -> str:
    """Return a trial's quantizer, or that it has several."""
    return "several" if trial.config.rules else trial.config.quantizer.name


def _row(trial: TrialRecord, cost: Cost, on_front: frozenset[int] | None = None) -> Row:
    assert trial.val_error is not None
    images = trial.facts.get("num_validation")
    spread = standard_error(trial.val_error, images) if images else 0.0
    value = trial.facts[cost]
    return {
        "trial": trial.number,
        "error": 100 * trial.val_error,
        "low": 100 * max(trial.val_error - spread, 0.0),
        "high": 100 * (trial.val_error + spread),
        "cost": value / 1024 if cost == "size_bytes" else value / 1e6,
        "kind": kind_of(trial),
        "quantizer": quantizer_text(trial.config),
        "bits": bits_text(trial),
        "filled": on_front is None or trial.number in on_front,
    }


def _winner(report: Report, cost: Cost) -> list[Row]:
    winner = report.winner
    return [] if winner is None or cost not in winner.facts else [_row(winner, cost)]


def _reference_lines(report: Report) -> Iterator[Row]:
    """Yield errors that are known from elsewhere: of the float network, and published ones."""
    known = []
    baseline = report.baseline
    if baseline is not None and baseline.val_error is not None:
        known.append((f"float, trial {baseline.number}", 100 * baseline.val_error))
    if report.start_error is not None:
        known.append(("the float network at the start", 100 * report.start_error))
    for row in report.comparison.rows if report.comparison else ():
        if row.method.published is not None:
            known.append((f"published, {row.method.name}", 100 * row.method.published))
    known.sort(key=lambda line: line[1])
    for index, (name, error) in enumerate(known):  # names of neighbours stand apart
        yield {"error": error, "label": f"{name}: {error:.2f} %", "middle": index % 2 == 0}


def _scatter(rows: dict[str, list[Row]], title: str, unit: str) -> alt.LayerChart:
    seen = {row["kind"] for row in rows["trials"]}
    kinds = [name for name in NAMES if name in seen]
    errors = [row["error"] for name in ("trials", "confirmed", "lines") for row in rows[name]]
    costs = [row["cost"] for name in ("trials", "confirmed") for row in rows[name]]
    x = alt.X("cost:Q", title=title, scale=scale(costs), axis=alt.Axis(format="~g", grid=False))

    def y(field: str = "error") -> alt.Y:
        axis = alt.Axis(format="~g", tickCount=8)
        return alt.Y(f"{field}:Q", title="validation error (%)", scale=scale(errors), axis=axis)

    places = [NAMES.index(kind) for kind in kinds]
    colours = alt.Scale(domain=kinds, range=[SERIES[place] for place in places])
    shapes = alt.Scale(domain=kinds, range=[SHAPES[place] for place in places])
    stroke = alt.Stroke("kind:N", title="weights", scale=colours)
    tooltip = [
        alt.Tooltip("trial:Q", title="trial"),
        alt.Tooltip("error:Q", title="error (%)", format=".2f"),
        alt.Tooltip("cost:Q", title=unit, format=",.1f"),
        alt.Tooltip("bits:N", title="bits"),
        alt.Tooltip("quantizer:N", title="quantizer"),
    ]
    trials, again = alt.Chart(alt.NamedData("trials")), alt.Chart(alt.NamedData("confirmed"))
    winner = alt.Chart(alt.NamedData("winner"))
    bars = trials.mark_rule(strokeWidth=1, opacity=0.35, clip=True)
    marks = trials.mark_point(size=70, strokeWidth=1.5, opacity=1).encode(
        x,
        y(),
        stroke,
        alt.Shape("kind:N", title="weights", scale=shapes),
        alt.Fill("kind:N", title="weights", scale=colours),
        fillOpacity=alt.condition("datum.filled", alt.value(0.7), alt.value(0)),
        tooltip=tooltip,
    )
    front = alt.Chart(alt.NamedData("front")).mark_line(
        interpolate="step-after", stroke=INK, strokeWidth=1.5
    )
    ring = winner.mark_point(shape="circle", size=320, stroke=INK, strokeWidth=2, filled=False)
    label = winner.mark_text(align="left", dx=12, dy=-12, fontWeight="bold")
    spread = again.mark_rule(strokeWidth=2, stroke=INK, clip=True)
    means = again.mark_point(
        shape="diamond", size=200, stroke=INK, fill=PAPER, strokeWidth=2, fillOpacity=0.6
    )
    about_means = [
        alt.Tooltip("trial:Q", title="trial"),
        alt.Tooltip("error:Q", title="mean (%)", format=".2f"),
        alt.Tooltip("seeds:Q", title="new seeds"),
    ]
    layers = [
        *_lines(y()),
        front.encode(x, y(), order=alt.Order("cost:Q")),
        marks,
        bars.encode(x, y("low"), alt.Y2("high:Q"), stroke, tooltip=tooltip),
        spread.encode(x, y("low"), alt.Y2("high:Q")),
        means.encode(x, y(), tooltip=about_means),
        ring.encode(x, y(), tooltip=tooltip),
        label.encode(x, y(), text=alt.value("this one")),
    ]
    found: alt.LayerChart = sized(alt.layer(*layers), 360)
    return found


def _lines(y: alt.Y) -> Iterator[alt.Chart]:
    lines = alt.Chart(alt.NamedData("lines"))
    yield lines.mark_rule(strokeDash=[6, 4], stroke=SOFT, strokeWidth=1.5).encode(y)
    for where, x in (("datum.middle", alt.expr("width / 2")), ("!datum.middle", 8)):
        text = lines.transform_filter(where).mark_text(
            align="left", baseline="bottom", dy=-2, color=SOFT, fontSize=11
        )
        yield text.encode(y, text="label:N", x=alt.value(x))

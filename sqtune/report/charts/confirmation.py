"""What new seeds say of the best."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from sqtune.report.charts.style import INK, PAPER, SERIES, Chart, scale, sized, spec
from sqtune.report.facts import Report
from sqtune.search.wording import plural

Row = dict[str, Any]


def confirmation_chart(report: Report) -> Chart | None:
    """Return what each new seed gave; None before any."""
    shown, alike = report.confirmed, report.confirmed_epochs is None
    if not shown:
        return None
    names = [f"trial {each.trial}" for each in shown]
    seeds: list[Row] = [
        {"name": f"trial {each.trial}", "error": 100 * error}
        for each in shown
        for error in each.errors
    ]
    means: list[Row] = [
        {
            "name": f"trial {each.trial}",
            "mean": 100 * each.mean,
            "low": 100 * (each.mean - (each.standard_error or 0.0)),
            "high": 100 * (each.mean + (each.standard_error or 0.0)),
        }
        for each in shown
    ]
    first = [{"name": f"trial {e.trial}", "first": 100 * e.first_error} for e in shown if alike]
    caption = "Ticks are new seeds, diamonds their mean, bars its standard error"
    if alike:
        caption += (
            ", circles what the search had measured once: the best of many is often a lucky one"
        )
    else:
        caption += f", all trained for {plural(report.confirmed_epochs or 0, 'epoch')} instead"
    text = "; ".join(
        f"trial {each.trial} mean {100 * each.mean:.2f} % of {plural(len(each.errors), 'seed')}"
        for each in shown
    )
    rows = {"seeds": seeds, "means": means, "first": first}
    return Chart(
        "confirmation",
        "The best again, with new seeds",
        f"{caption}. Lowest mean: trial {shown[0].trial}.",
        f"Errors by new seed: {text}.",
        (spec(_again(rows, names), rows),),
    )


def _again(rows: dict[str, list[Row]], names: list[str]) -> Any:
    known = [row["error"] for row in rows["seeds"]] + [row["first"] for row in rows["first"]]
    known += [row[end] for row in rows["means"] for end in ("low", "high")]
    axis = scale([value for value in known if math.isfinite(value)], log=False)
    y = alt.Y("name:N", title=None, sort=names, axis=alt.Axis(grid=True))

    def x(field: str) -> alt.X:
        ticks = alt.Axis(tickCount=8)
        return alt.X(f"{field}:Q", title="validation error (%)", scale=axis, axis=ticks)

    by_mean, first = alt.Chart(alt.NamedData("means")), alt.Chart(alt.NamedData("first"))
    drawn = alt.layer(
        by_mean.mark_rule(stroke=INK, strokeWidth=2).encode(x("low"), alt.X2("high:Q"), y=y),
        alt.Chart(alt.NamedData("seeds"))
        .mark_tick(thickness=2, color=SERIES[0], size=18)
        .encode(x("error"), y, tooltip=[alt.Tooltip("error:Q", format=".2f", title="error (%)")]),
        by_mean.mark_point(shape="diamond", size=160, fill=PAPER, stroke=INK, strokeWidth=2).encode(
            x("mean"), y, tooltip=[alt.Tooltip("mean:Q", format=".2f", title="mean (%)")]
        ),
        first.mark_point(shape="circle", size=70, stroke=SERIES[1], strokeWidth=2).encode(
            x("first"), y, tooltip=[alt.Tooltip("first:Q", format=".2f", title="first (%)")]
        ),
    )
    return sized(drawn, 34 * len(names))

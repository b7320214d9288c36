"""What mattered: how much each searched value did, and how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from typing import Any

import altair as alt

from sqtune.config.parameters import ChoiceParameter, label
from sqtune.report.charts.style import (
    INK,
    SERIES,
    Chart,
    axis_of,
    scale,
    sized,
    spec,
    wrapped,
)
from sqtune.report.facts import Report
from sqtune.search.records import TrialRecord
from sqtune.search.wording import plural

Row = dict[str, Any]
MOST_SLICES = 12
FEWEST_FOR_A_MEDIAN = 3  # trials of each category
LINE_HEIGHT = 15  # pixels of a line of a category's name
SLICE_WIDTH = 320  # pixels: three stand side by side, as wide as a phone
LABEL_WIDTH = 150  # pixels of it for a category's name
LINES = 5  # of an axis


def importance_chart(report: Report) -> Chart | None:
    """Return how much each searched value matters; None where that is not known."""
    if not report.importance:
        return None
    shares = {path: 100 * share for path, share in report.importance.items()}
    rows = [{"path": path, "share": share} for path, share in shares.items()]
    names = list(shares)
    base = alt.Chart(alt.NamedData("shares")).encode(
        alt.Y("path:N", sort=names, title=None, axis=alt.Axis(labelLimit=260)),
        alt.X(
            "share:Q",
            title="share (%)",
            axis=alt.Axis(tickCount=5),
            scale=alt.Scale(domain=[0, 1.12 * shares[names[0]]], nice=False),
        ),
    )
    bars = base.mark_bar(color=SERIES[0], height=14)
    text = base.mark_text(align="left", dx=4).encode(text=alt.Text("share:Q", format=".0f"))
    most, share = names[0], shares[names[0]]
    return Chart(
        "importance",
        "Importance of each searched value",
        "How much the values of the best tenth of the trials differ from those of all (PED-ANOVA), "
        "as a share of the whole. It tells what set the best apart, not in which direction: the "
        "error against each value does. From few trials it is a hint and no more.",
        f"Bars of importance for {plural(len(names), 'searched value')}; "
        f"the largest is {most} with {share:.0f} %.",
        (spec(sized(alt.layer(bars, text), 26 * len(names)), {"shares": rows}),),
    )


def searched(report: Report) -> list[str]:
    """Return the searched values that differ between finished trials, most important first."""
    found: dict[str, set[str]] = {}
    for trial in report.networks:
        for path, value in trial.values.items():
            found.setdefault(path, set()).add(label(value))
    differing = [path for path in sorted(found) if len(found[path]) > 1]
    return sorted(differing, key=lambda path: -report.importance.get(path, 0.0))


def slice_charts(report: Report) -> list[Chart]:
    """Return a chart of the error against each searched value, most important first."""
    return [
        _slice(report, path, place) for place, path in enumerate(searched(report)[:MOST_SLICES])
    ]


def _slice(report: Report, path: str, place: int) -> Chart:
    trials = [trial for trial in report.networks if path in trial.values]
    numbers = is_numeric(report, path, trials)
    rows = [_slice_row(report, trial, path, numeric=numbers) for trial in trials]
    drawn = _numeric_slice(report, path, rows) if numbers else _categories(rows)
    title = f"{path} (searched in {len(trials)} of {len(report.networks)})"
    return Chart(
        f"slice-{place + 1:02d}",
        path if len(trials) == len(report.networks) else title,
        _how_to_read(report),
        f"Error of {plural(len(trials), 'network')} against {path}: {_in_words(rows, numbers)}.",
        (spec(drawn, {"trials": rows, **_medians(rows, numbers)}),),
        still_width=SLICE_WIDTH,
    )


def _how_to_read(report: Report) -> str:
    """Return the caption of all slices."""
    winner = report.winner
    large = "" if winner is None else f", the large diamond trial {winner.number}"
    return (
        f"Each mark is a finished network{large}; the error against one searched value, whatever "
        "the others were. Upright ticks are medians. What differs little from category to category "
        "did not matter by itself."
    )


def _in_words(rows: Sequence[Row], numeric: bool) -> str:
    if numeric:
        top = min(rows, key=lambda row: float(row["error"]))
        return f"the lowest error, {top['error']:.2f} %, at {top['value']:.3g}"
    found = _medians(rows, numeric)["medians"]
    if any(row["count"] < FEWEST_FOR_A_MEDIAN for row in found):
        top = min(rows, key=lambda row: float(row["error"]))
        return f"the lowest error, {top['error']:.2f} %, has {top['value']}"
    best = min(found, key=lambda row: float(row["error"]))
    return f"the lowest median, {best['error']:.2f} %, has {best['value']}"


def _slice_row(report: Report, trial: TrialRecord, path: str, *, numeric: bool) -> Row:
    assert trial.val_error is not None
    value = trial.values[path]
    return {
        "trial": trial.number,
        "error": 100 * trial.val_error,
        "value": value if numeric else label(value),
        "best": trial is report.winner,
    }


def _medians(rows: Sequence[Row], numeric: bool) -> dict[str, list[Row]]:
    if numeric:
        return {}
    by_value: dict[str, list[float]] = {}
    for row in rows:
        by_value.setdefault(row["value"], []).append(row["error"])
    return {
        "medians": [
            {"value": value, "error": median(errors), "count": len(errors)}
            for value, errors in by_value.items()
        ]
    }


def is_numeric(report: Report, path: str, trials: Sequence[TrialRecord]) -> bool:
    """Tell whether a searched value is a number in a range."""
    if isinstance(report.space.space.get(path), ChoiceParameter):
        return False
    return all(isinstance(trial.values[path], int | float) for trial in trials)


def is_log(report: Report, path: str) -> bool:
    """Tell whether a searched value is sampled on a logarithmic scale."""
    return bool(getattr(report.space.space.get(path), "log", False))


_TOOLTIP = [
    alt.Tooltip("trial:Q", title="trial"),
    alt.Tooltip("error:Q", title="error (%)", format=".2f"),
    alt.Tooltip("value:N", title="value"),
]


def _numeric_slice(report: Report, path: str, rows: Sequence[Row]) -> Any:
    values = scale([row["value"] for row in rows], log=is_log(report, path))
    errors = scale([row["error"] for row in rows])
    drawn = _points().encode(
        alt.X("value:Q", title=path, scale=values, axis=axis_of(values, LINES)),
        alt.Y("error:Q", title="error (%)", scale=errors, axis=axis_of(errors, LINES)),
    )
    return sized(drawn, 200)


def _categories(rows: Sequence[Row]) -> Any:
    names = sorted(
        {row["value"] for row in rows},
        key=lambda name: median(row["error"] for row in rows if row["value"] == name),
    )
    errors = scale([row["error"] for row in rows])
    shown = {name: wrapped(name) for name in names}  # two may look alike; a mark tells the whole
    text = f"split({json.dumps(shown)}[datum.label], '\\n')"
    labels = alt.Axis(labelExpr=text, labelLimit=LABEL_WIDTH, grid=True)
    y = alt.Y("value:N", sort=names, title=None, axis=labels)
    x = alt.X("error:Q", title="error (%)", scale=errors, axis=axis_of(errors, LINES))
    middle = alt.Chart(alt.NamedData("medians")).mark_tick(thickness=3, size=20, color=INK)
    about = [
        alt.Tooltip("error:Q", title="median (%)", format=".2f"),
        alt.Tooltip("count:Q", title="trials"),
        alt.Tooltip("value:N", title="value"),
    ]
    lines = max(text.count("\n") for text in shown.values()) + 1
    drawn = alt.layer(middle.encode(x, y, tooltip=about), _points().encode(x, y))
    return sized(drawn, (LINE_HEIGHT * lines + 12) * len(names))


def _points() -> alt.Chart:
    """Return marks for trials: circles, the winner a large diamond."""
    found: alt.Chart = (
        alt.Chart(alt.NamedData("trials"))
        .mark_point(strokeWidth=1.5, opacity=1)
        .encode(
            shape=alt.condition("datum.best", alt.value("diamond"), alt.value("circle")),
            size=alt.condition("datum.best", alt.value(170), alt.value(45)),
            stroke=alt.condition("datum.best", alt.value(SERIES[1]), alt.value(SERIES[0])),
            tooltip=_TOOLTIP,
        )
    )
    return found

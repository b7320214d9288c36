"""Which searched values go together: parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from sqtune.config.parameters import label
from sqtune.report.charts.mattered import is_log, is_numeric, searched
from sqtune.report.charts.style import PAPER, SERIES, SOFT, Chart, sized, spec, wrapped
from sqtune.report.facts import Report
from sqtune.search.records import TrialRecord
from sqtune.search.wording import plural

Row = dict[str, Any]
MOST_AXES = 8
MOST_LINES = 300
NOT_SEARCHED = -0.12  # where a line passes an axis on which a trial has no value


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of the parallel coordinates: where values lie on it (0..1), and its labels."""

    name: str
    values: dict[int, float]
    labels: list[tuple[float, str]]


def parallel_chart(report: Report) -> Chart | None:
    """Return how values go together; None with fewer than two trials or values."""
    trials = report.ranked[:MOST_LINES]
    known = {path for trial in trials for path in trial.values}
    paths = [path for path in searched(report) if path in known][: MOST_AXES - 2]
    if len(trials) < 2 or not paths:
        return None
    axes = [_axis_of(report, path, trials) for path in paths]
    sizes = {t.number: t.size_bytes / 1024 for t in trials if t.size_bytes is not None}
    if len(set(sizes.values())) > 1:
        axes.append(_measured("size (KiB)", sizes))
    axes.append(_measured("error (%)", {t.number: 100 * (t.val_error or 0.0) for t in trials}))
    better = max(1, math.ceil(len(trials) / 10))
    rows, worst_first = list[Row](), list(enumerate(trials))[::-1]
    first = "" if report.winner is None else f"trial {report.winner.number}"
    for rank, trial in worst_first:
        how = first if trial is report.winner else "best tenth" if rank < better else "others"
        about = {"trial": trial.number, "how": how, "error": 100 * (trial.val_error or 0.0)}
        for place, each in enumerate(axes):
            at = each.values.get(trial.number, NOT_SEARCHED)
            rows.append({**about, "axis": place, "at": at})
    rows.sort(key=lambda row: row["how"] == first)  # drawn last
    labels = [
        {"axis": place, "at": at, "label": text}
        for place, each in enumerate(axes)
        for at, text in each.labels
    ]
    heads = [
        {"axis": place, "name": wrapped(each.name, 18, 2), "low": 0, "high": 1, "above": 1.06}
        for place, each in enumerate(axes)
    ]
    data = {"lines": rows, "labels": labels, "heads": heads}
    more = "" if len(trials) == len(report.ranked) else f" Shown are the {MOST_LINES} best."
    return Chart(
        "parallel",
        "Which values go together",
        "Each line is a network: follow it from axis to axis to read its values, to the right its "
        f"size and error (low is better). The thick line is {first}, thinner ones are "
        f"the best tenth, the faint ones the others. A line below an axis has no value there."
        f"{more}",
        f"Parallel coordinates of {plural(len(trials), 'network')} over "
        f"{', '.join(each.name for each in axes)}.",
        (spec(_parallel(len(axes), first), data),),
        least_width=130 * len(axes),
    )


def _axis_of(report: Report, path: str, trials: Sequence[TrialRecord]) -> _Axis:
    having = [trial for trial in trials if path in trial.values]
    if is_numeric(report, path, having):
        values = {trial.number: float(trial.values[path]) for trial in having}
        return _measured(path, values, log=is_log(report, path))
    names = sorted({label(trial.values[path]) for trial in having})
    at = {name: place / max(len(names) - 1, 1) for place, name in enumerate(names)}
    values = {trial.number: at[label(trial.values[path])] for trial in having}
    return _Axis(path, values, [(place, wrapped(name, 20)) for name, place in at.items()])


def _measured(name: str, values: dict[int, float], *, log: bool = False) -> _Axis:
    low, high = min(values.values()), max(values.values())

    def at(value: float) -> float:
        if low == high:
            return 0.5
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    ends = [(at(value), f"{value:.3g}") for value in dict.fromkeys((low, high))]
    return _Axis(name, {number: at(value) for number, value in values.items()}, ends)


def _parallel(num_axes: int, first: str) -> Any:
    x = alt.X("axis:Q", axis=None, scale=alt.Scale(domain=[-0.1, num_axes - 0.2], nice=False))
    how = [first, "best tenth", "others"]

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", axis=None, scale=alt.Scale(domain=[-0.16, 1.2], nice=False))

    def by(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=how, range=list(values))

    lines = (
        alt.Chart(alt.NamedData("lines"))
        .mark_line()
        .encode(
            x,
            y("at"),
            alt.Detail("trial:N"),
            alt.Stroke("how:O", title=None, scale=by([SERIES[1], SERIES[0], SERIES[6]])),
            alt.StrokeWidth("how:O", title=None, scale=by([3.5, 1.6, 0.8])),
            alt.Opacity("how:O", title=None, scale=by([1, 0.9, 0.6])),
            tooltip=[
                alt.Tooltip("trial:Q", title="trial"),
                alt.Tooltip("error:Q", title="error (%)", format=".2f"),
            ],
        )
    )
    heads = alt.Chart(alt.NamedData("heads"))
    posts = heads.mark_rule(stroke=SOFT).encode(x, y("low"), alt.Y2("high:Q"))
    names = heads.mark_text(align="left", baseline="bottom", fontWeight="bold", lineBreak="\n")
    labels = alt.Chart(alt.NamedData("labels")).encode(x, y("at"), text="label:N")
    how_written: dict[str, Any] = {"align": "left", "dx": 5, "fontSize": 10.5, "lineBreak": "\n"}
    halo = labels.mark_text(stroke=PAPER, strokeWidth=3, strokeJoin="round", **how_written)
    return sized(
        alt.layer(
            posts,
            lines,
            names.encode(x, y("above"), text="name:N"),
            halo,
            labels.mark_text(**how_written),
        ),
        400,
    )

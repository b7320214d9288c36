"""What was stopped and when, what sharing saved, and methods beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from sqtune.report.charts.style import (
    INK,
    SERIES,
    SHAPES,
    SOFT,
    Chart,
    axis_of,
    scale,
    sized,
    spec,
)
from sqtune.report.facts import Comparison, Report, stops
from sqtune.search.compare_table import budget_text

Row = dict[str, Any]


def stopped_chart(report: Report) -> Chart | None:
    """Return how many trials went on from each rung; None where none was stopped."""
    found = stops(report.trials)
    if not found:
        return None
    rows, names, words = list[Row](), list[str](), list[str]()
    parts = ["went on", "held there", "stopped there"]
    for stop in found:
        names.append(f"epoch {stop.epoch} of {stop.num_epochs}")
        counts = (stop.went_on, stop.held, stop.stopped)
        rows += list(_segments(names[-1], list(zip(parts, counts, strict=True))))
        held = f", {stop.held} are held there" if stop.held else ""
        words.append(f"after {names[-1]} {stop.stopped} stopped{held} and {stop.went_on} went on")
    text = "; ".join(words)
    return Chart(
        "stopped",
        "What was stopped, and when",
        "At each rung a trial is compared with those that came as far; only the better part goes "
        "on. A bar has the trials that went on from the rung, are held or were stopped there.",
        f"{text[:1].upper()}{text[1:]}.",
        (_bars(rows, names, parts, "trials"),),
    )


def epochs_chart(report: Report) -> Chart | None:
    """Return which of the epochs that were asked for were trained; None where all were."""
    asked, trained, shared = _epochs(report)
    if asked == trained:
        return None
    parts = [("trained", trained), ("shared", shared), ("not trained", asked - trained - shared)]
    share = 100 * trained / asked
    return Chart(
        "epochs",
        "Epochs that were saved",
        "The epochs that the trials would train alone and to their end. Shared ones were trained "
        "by another trial that begins alike, bit for bit the same; those not trained would have "
        "come after a trial was stopped or failed, or are still to come.",
        f"Of {asked:,} epochs {trained:,} were trained ({share:.0f} %), {shared:,} shared and "
        f"{asked - trained - shared:,} not trained.",
        (_bars(list(_segments("epochs", parts)), ["epochs"], [n for n, _ in parts], "epochs"),),
    )


def none_saved(report: Report) -> str:
    """Return a sentence in place of the chart of epochs where these were all trained, or ""."""
    asked, trained, _ = _epochs(report)
    if not asked or asked > trained:
        return ""
    return f"No epoch was saved: all {asked:,} that were asked for were trained."


def _epochs(report: Report) -> tuple[int, int, int]:
    """Return how many epochs the trials that began ask for, have trained and share."""
    begun = [trial for trial in report.trials if trial.epochs and trial.duplicate_of is None]
    return (
        sum(trial.epochs_asked for trial in begun),
        sum(trial.epochs_trained for trial in begun),
        sum(trial.epochs_shared for trial in begun),
    )


def _segments(name: str, parts: Sequence[tuple[str, int]]) -> Iterator[Row]:
    """Yield the parts of a bar, from left to right."""
    end = 0
    for place, (part, count) in enumerate(parts):
        if count:
            row = {"name": name, "part": part, "count": count, "from": end, "to": end + count}
            yield {**row, "middle": end + count / 2, "text": f"{count:,}", "place": place}
        end += count


def _bars(rows: Sequence[Row], names: list[str], parts: list[str], unit: str) -> Any:
    known = {row["part"] for row in rows}
    looks = dict(zip(parts, (SERIES[5], SERIES[4], SERIES[6]), strict=False))
    seen = [part for part in parts if part in known]
    fills = alt.Scale(domain=seen, range=[looks[part] for part in seen])
    axis = alt.Axis(labelLimit=200)
    y = alt.Y("name:N", title=None, sort=names, axis=axis if len(names) > 1 else None)
    most = max(row["to"] for row in rows)
    wide = alt.Scale(domain=[0, most], nice=False)
    ticks = alt.Axis(format=",d", tickMinStep=1, tickCount=6)
    base = alt.Chart(alt.NamedData("parts"))
    about = [alt.Tooltip("part:N", title="what"), alt.Tooltip("count:Q", title=unit)]
    bars = base.mark_bar(stroke="var(--paper)", strokeWidth=2, height=24).encode(
        alt.X("from:Q", title=unit, scale=wide, axis=ticks),
        alt.X2("to:Q"),
        y,
        alt.Fill("part:N", title=None, scale=fills),
        tooltip=about,
    )
    text = base.transform_filter(f"datum.count >= {most / 25}").mark_text(
        fontWeight="bold", fontSize=12, color="#000000"
    )
    numbers = text.encode(alt.X("middle:Q", title=unit, scale=wide, axis=ticks), y, text="text:N")
    return spec(sized(alt.layer(bars, numbers), 36 * len(names)), {"parts": rows})


def comparison_chart(comparison: Comparison) -> Chart | None:
    """Return the methods' test errors by budget; None before any training has ended."""
    rows, num_epochs = comparison.rows, comparison.num_epochs
    budgets = [budget_text(budget, num_epochs) for budget in rows[0].cells]
    seeds, means = list[Row](), list[Row]()
    for row in rows:
        for budget, cell in row.cells.items():
            if cell.mean is None:
                continue
            place = {"method": row.method.name, "budget": budget_text(budget, num_epochs)}
            spread = cell.deviation or 0.0
            seeds += [{**place, "error": 100 * error} for error in cell.test_errors.values()]
            means.append(
                {
                    **place,
                    "error": 100 * cell.mean,
                    "low": 100 * (cell.mean - spread),
                    "high": 100 * (cell.mean + spread),
                    "seeds": len(cell.test_errors),
                }
            )
    if not means:
        return None
    published = [
        {"method": row.method.name, "error": 100 * row.method.published}
        for row in rows
        if row.method.published is not None
    ]
    text = "; ".join(f"{m['method']}, {m['budget']}: {m['error']:.2f} %" for m in means)
    caption = (
        "Small dots are seeds, large marks their mean with its standard deviation; one colour and "
        "shape for each budget."
    )
    if published:
        caption += " Vertical black ticks are what was published, on the paper's own images."
    drawn = _methods([row.method.name for row in rows], budgets, means, published)
    data = {"seeds": seeds, "means": means, "published": published}
    parts = (spec(drawn, data),)
    return Chart("compare", "The methods beside each other", caption, f"Mean: {text}.", parts)


def _methods(
    names: list[str], budgets: list[str], means: Sequence[Row], published: Sequence[Row]
) -> Any:
    ends = [row[end] for row in means for end in ("low", "high", "error")]
    values = scale([max(end, 0.0) for end in (*ends, *(row["error"] for row in published))])
    ticks = axis_of(values, 6)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="test error (%)", scale=values, axis=ticks)

    y = alt.Y("method:N", title=None, sort=names, axis=alt.Axis(labelLimit=160, grid=True))
    count = len(budgets)
    shift = alt.YOffset("budget:N", sort=budgets)
    legend = alt.Legend(columns=2)  # a phone has room for no more
    colour = alt.Color(
        "budget:N",
        title=None,
        legend=legend,
        scale=alt.Scale(domain=budgets, range=[SERIES[place % 7] for place in range(count)]),
    )
    shape = alt.Shape(
        "budget:N",
        title=None,
        legend=legend,
        scale=alt.Scale(domain=budgets, range=[SHAPES[place % 7] for place in range(count)]),
    )
    by_mean = alt.Chart(alt.NamedData("means"))
    known = alt.Chart(alt.NamedData("published")).mark_tick(thickness=3, size=34, color=INK)
    dots = alt.Chart(alt.NamedData("seeds")).mark_circle(size=22, opacity=0.6, color=SOFT)
    about = [
        alt.Tooltip("method:N"),
        alt.Tooltip("budget:N"),
        alt.Tooltip("error:Q", title="mean (%)", format=".2f"),
        alt.Tooltip("seeds:Q"),
    ]
    return sized(
        alt.layer(
            known.encode(x("error"), y, tooltip=[alt.Tooltip("error:Q", title="published (%)")]),
            by_mean.mark_rule(strokeWidth=1.5, clip=True).encode(
                x("low"), alt.X2("high:Q"), y, shift, colour
            ),
            dots.encode(x("error"), y, shift),
            by_mean.mark_point(size=90, filled=True).encode(
                x("error"), y, shift, colour, shape, tooltip=about
            ),
        ),
        max(30, 18 * count) * len(names),
    )

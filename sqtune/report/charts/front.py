"""Error against what a network costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from sqtune.report.charts.scatter import roles_of, scatter, stand_beside
from sqtune.report.charts.style import Chart, Spec, lowest_end, spec
from sqtune.report.facts import Report
from sqtune.search.pareto import standard_error
from sqtune.search.records import TrialRecord
from sqtune.search.tables import bits_text, quantizer_text
from sqtune.search.wording import count_text, kib, plural

Cost = Literal["size_bytes", "bit_operations"]
Row = dict[str, Any]


def front_chart(report: Report) -> Chart | None:
    """Return error against size; None without a finished trial."""
    trials = [trial for trial in report.networks if trial.size_bytes is not None]
    if not trials:
        return None
    rows = {
        "trials": [_row(trial, "size_bytes") for trial in trials],
        "front": [_row(trial, "size_bytes") for trial in reversed(report.front)],
        "confirmed": _means(report),
        "lines": list(_reference_lines(report)),
    }
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
        "smaller; those of one size stand side by side. Bars are one standard error of the "
        "validation images"
    )
    if rows["confirmed"]:
        caption += "; a hollow diamond is a mean over new seeds, its bar that mean's standard error"
    caption += "."
    if len(report.front) > 1:
        caption += " The stepped line is the front: nothing is both smaller and more accurate."
    if rows["lines"]:
        caption += " Dashed lines are for reference."
    caption += _ring(report)
    return Chart(
        "front",
        "Error against size",
        caption,
        alt_text,
        (_drawn(report, rows, "size (KiB)", "KiB"),),
    )


def _drawn(report: Report, rows: dict[str, list[Row]], title: str, unit: str) -> Spec:
    """Return a picture of the rows, to which the winner and the legend are added."""
    winner, spread = report.winner, [*rows["trials"], *rows["confirmed"]]
    least = lowest_end([row["error"] for row in (*spread, *rows["lines"])])
    for row in spread:
        row["low"] = max(row["low"], least)
    stand_beside(rows["trials"], rows["confirmed"])
    rows["winner"] = [
        {**row, "name": f"trial {winner.number}"}
        for row in rows["trials"]
        if winner is not None and row["trial"] == winner.number
    ]
    rows["roles"] = roles_of(rows)
    return spec(scatter(rows, title, unit), rows)


def _means(report: Report) -> list[Row]:
    """Return means over new seeds; none of another budget, beside the search's own."""
    if report.confirmed_epochs is not None:
        return []
    return [
        {
            "cost": each.size_bytes / 1024,
            "error": 100 * each.mean,
            "low": 100 * (each.mean - (each.standard_error or 0.0)),
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
    }
    least = min(trials, key=lambda trial: trial.facts["bit_operations"])
    alt_text = (
        f"Scatter plot of validation error against bit operations of "
        f"{plural(len(trials), 'network')}; the least is "
        f"{count_text(least.facts['bit_operations'])}, of trial {least.number}."
    )
    caption = (
        "Each mark is a finished network: its error against multiply-adds times the bits of both "
        "factors, for one image. Bars are one standard error of the validation images. Filled "
        f"marks are on the front of {' and '.join(report.space.search.objectives)}."
        f"{_ring(report)}"
    )
    drawn = _drawn(report, rows, "bit operations (millions)", "M bit operations")
    return Chart("operations", "Error against bit operations", caption, alt_text, (drawn,))


def _ring(report: Report) -> str:
    return "" if report.winner is None else f" The ring is trial {report.winner.number}."


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
        "low": 100 * (trial.val_error - spread),
        "high": 100 * (trial.val_error + spread),
        "cost": value / 1024 if cost == "size_bytes" else value / 1e6,
        "kind": kind_of(trial),
        "quantizer": quantizer_text(trial.config),
        "bits": bits_text(trial),
        "filled": on_front is None or trial.number in on_front,
    }


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

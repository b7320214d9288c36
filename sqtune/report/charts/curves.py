"""Learning curves, with the ratio beneath; and the layers of one network over its epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from sqtune.report.charts.style import INK, SERIES, SOFT, Chart, axis_of, scale, sized, spec
from sqtune.report.facts import LayerErrors, Report
from sqtune.search.records import TrialRecord
from sqtune.search.wording import plural

Row = dict[str, Any]
MOST_POINTS = 20_000  # of all curves: more make the page slow and large
FEWEST_POINTS = 8  # of a curve that is thinned
MOST_RECTANGLES = 6_000
AXIS = 46  # pixels left of a chart, so that charts that lie below each other agree
CROSS = "M-1,-1L1,1M-1,1L1,-1"  # as an SVG path
HOW = ("finished", "stopped or failed", "going on")  # beside the winner
GOING_ON = ("running", "interrupted", "paused")


def curves_chart(report: Report) -> Chart | None:
    """Return error by epoch and, beneath, ratio by epoch; None before any epoch."""
    trials = [trial for trial in report.shown if trial.epochs and trial.duplicate_of is None]
    if not trials:
        return None
    trials.sort(key=lambda trial: trial is report.winner)  # drawn last, above the others
    most = max(FEWEST_POINTS, MOST_POINTS // len(trials))
    curves = [row for trial in trials for row in _curve(report, trial, most)]
    lasts = [(trial, row) for trial in trials for row in _curve(report, trial, most)[-1:]]
    ends = [row for trial, row in lasts if trial.state in ("stopped", "failed")]
    last = [row for trial, row in lasts if trial is report.winner]
    ratios = list(_ratios(report, trials, most))
    longest = max(len(trial.epochs) for trial in trials)
    thinned = longest > most
    top = report.winner
    first = "" if top is None else f"trial {top.number}"
    found = {_how(report, trial) for trial in trials}
    seen = [how for how in (first, *HOW) if how in found]
    alt_text = f"Learning curves of {plural(len(trials), 'trial')} over {plural(longest, 'epoch')}"
    if top is not None and top.val_error is not None:
        alt_text += f"; trial {top.number} ends at {100 * top.val_error:.2f} %"
    caption = (
        "Above, the validation error after each epoch with all weights quantized (before the first "
        "quantized epoch, that of the float network); below, the ratio: the share of the weights "
        "that was quantized while the epoch trained. A rise above often is a step of the ratio "
        "below. Crosses are where trials were stopped or failed."
    )
    if thinned:
        caption += f" Long curves are thinned to {most} points each; their ends are exact."
    epochs = alt.Scale(domain=[0, longest], nice=False)
    looks = _by_how(seen, len(trials))
    parts = (
        spec(_errors(curves, looks, epochs), {"curves": curves, "ends": ends, "last": last}),
        spec(_ratio(looks, epochs), {"ratios": ratios}),
    )
    return Chart("curves", "Learning curves", caption, f"{alt_text}.", parts)


def _how(report: Report, trial: TrialRecord) -> str:
    if trial is report.winner:
        return f"trial {trial.number}"
    if trial.state in GOING_ON:
        return HOW[2]
    return HOW[0] if trial.state == "finished" else HOW[1]


def _curve(report: Report, trial: TrialRecord, most: int) -> list[Row]:
    how = _how(report, trial)
    rows = []
    for epoch in kept(len(trial.epochs), most):
        metrics = trial.epochs[epoch - 1]
        error = metrics.get("val_error", metrics.get("val_error_hybrid"))
        if error is not None:
            point = {"trial": trial.number, "epoch": epoch, "how": how}
            rows.append({**point, "error": round(100 * error, 3)})
    return rows


def kept(num_epochs: int, most: int) -> list[int]:
    """Return at most so many epochs (from 1), evenly spaced, the first and the last among them.

    >>> kept(3, 8), kept(100, 5)
    ([1, 2, 3], [1, 26, 51, 75, 100])
    """
    if num_epochs <= most:
        return list(range(1, num_epochs + 1))
    return [1 + round(place * (num_epochs - 1) / (most - 1)) for place in range(most)]


def _ratios(report: Report, trials: Sequence[TrialRecord], most: int) -> Iterator[Row]:
    """Yield the steps of each different ratio schedule, once."""
    drawn: dict[tuple[tuple[int, float], ...], tuple[str, int]] = {}
    for trial in trials:
        steps = tuple(_steps([epoch["ratio"] for epoch in trial.epochs if "ratio" in epoch], most))
        if steps:
            drawn.pop(steps, None)  # the last of several stands for all, and above the others
            drawn[steps] = (_how(report, trial), trial.number)
    for steps, (how, number) in drawn.items():
        for epoch, ratio in steps:
            yield {"trial": number, "epoch": epoch, "ratio": ratio, "how": how}


def _steps(ratios: Sequence[float], most: int) -> Iterator[tuple[int, float]]:
    """Yield the ends of the spans of constant ratio, with the ratio up to there."""
    if not ratios:
        return
    ends = [
        epoch
        for epoch in range(1, len(ratios) + 1)
        if epoch == len(ratios) or ratios[epoch] != ratios[epoch - 1]
    ]
    yield 0, round(ratios[0], 4)
    for place in kept(len(ends), most):
        yield ends[place - 1], round(ratios[ends[place - 1] - 1], 4)


def _by_how(seen: Sequence[str], num_trials: int) -> dict[str, Any]:
    """Return how curves differ: by colour, dash, width and, where there are many, opacity."""
    faint = 0.85 if num_trials <= 30 else 0.5 if num_trials <= 100 else 0.2
    looks = {
        HOW[0]: (SERIES[0], [1, 0], 1.0, faint),
        HOW[1]: (SOFT, [5, 3], 1.0, faint),
        HOW[2]: (SERIES[2], [2, 2], 1.5, faint),
    }
    winners = (SERIES[1], [1, 0], 3.0, 1.0)
    domain = list(seen)

    def by(index: int) -> alt.Scale:
        return alt.Scale(domain=domain, range=[looks.get(how, winners)[index] for how in domain])

    return {
        "stroke": alt.Stroke("how:O", title=None, scale=by(0)),
        "strokeDash": alt.StrokeDash("how:O", title=None, scale=by(1)),
        "strokeWidth": alt.StrokeWidth("how:O", title=None, scale=by(2)),
        "opacity": alt.Opacity("how:O", title=None, scale=by(3)),
        "detail": "trial:N",
    }


def _x(epochs: alt.Scale, title: str | None) -> alt.X:
    axis = alt.Axis(format="d", tickMinStep=1, grid=False, labelOverlap=True)
    return alt.X("epoch:Q", title=title, scale=epochs, axis=axis)


def _y(field: str, title: str, values: alt.Scale, ticks: int) -> alt.Y:
    lines = axis_of(values, ticks, minExtent=AXIS, maxExtent=AXIS)
    return alt.Y(f"{field}:Q", title=title, scale=values, axis=lines)


def _errors(curves: Sequence[Row], looks: Mapping[str, Any], epochs: alt.Scale) -> Any:
    y = _y("error", "error (%)", scale([row["error"] for row in curves]), 8)
    tooltip = [
        alt.Tooltip("trial:Q", title="trial"),
        alt.Tooltip("epoch:Q", title="epoch"),
        alt.Tooltip("error:Q", title="error (%)", format=".2f"),
    ]
    x = _x(epochs, None)
    lines = alt.Chart(alt.NamedData("curves")).mark_line()
    ends = alt.Chart(alt.NamedData("ends")).mark_point(
        shape=CROSS, size=60, stroke=SOFT, strokeWidth=1.5
    )
    last = alt.Chart(alt.NamedData("last"))
    return sized(
        alt.layer(
            lines.encode(x, y, **looks, tooltip=tooltip),
            ends.encode(x, y, tooltip=tooltip),
            last.mark_point(size=70, filled=True, color=SERIES[1]).encode(x, y, tooltip=tooltip),
        ),
        280,
    )


def _ratio(looks: Mapping[str, Any], epochs: alt.Scale) -> Any:
    y = _y("ratio", "ratio", alt.Scale(domain=[0, 1.04], nice=False), 3)
    plain = {key: look if key == "detail" else look.legend(None) for key, look in looks.items()}
    drawn = (
        alt.Chart(alt.NamedData("ratios"))
        .mark_line(interpolate="step-before")
        .encode(_x(epochs, "epoch"), y, **plain)
    )
    return sized(drawn, 110)


def layers_chart(report: Report) -> Chart | None:
    """Return the winner's quantization error by layer and epoch; None where it is not known."""
    layers, winner = report.layers, report.winner
    if layers is None or winner is None or not any(map(any, layers.errors)):
        return None
    num_epochs = len(layers.errors[0])
    most = max(2, MOST_RECTANGLES // len(layers.names))
    shown = kept(num_epochs, most)
    rows = list(_rectangles(layers, shown))
    steps = [
        {"epoch": epoch, "ratio": ratio}
        for epoch, ratio in _steps([each.get("ratio", 1.0) for each in winner.epochs], 24)
        if 0 < epoch < num_epochs
    ]
    last = {name: errors[-1] for name, errors in zip(layers.names, layers.errors, strict=True)}
    known = {name: error for name, error in last.items() if error is not None}
    high, low = max(known, key=lambda n: known[n]), min(known, key=lambda n: known[n])
    caption = (
        f"Trial {winner.number}: each row is a quantized layer, from the input down to the output; "
        "each column an epoch. The colour is how far the layer's weights are from their quantized "
        "values (mean relative error of its filters): dark is close. Dashed lines are where the "
        "ratio changes; nothing is drawn while no layer was quantized."
    )
    if len(shown) < num_epochs:
        caption += f" Of {num_epochs} epochs {len(shown)} are shown, evenly spaced."
    return Chart(
        "layers",
        "Quantization error of each layer",
        caption,
        f"Heat map of {plural(len(layers.names), 'layer')} over {plural(num_epochs, 'epoch')}. In "
        f"the last epoch the largest error has {high} ({known[high]:.3f}), the smallest {low} "
        f"({known[low]:.3f}).",
        (spec(_heat_map(layers, num_epochs), {"layers": rows, "steps": steps}),),
        least_width=460,
        still_width=560,
    )


def _rectangles(layers: LayerErrors, shown: Sequence[int]) -> Iterator[Row]:
    for name, errors in zip(layers.names, layers.errors, strict=True):
        before = 0
        for epoch in shown:
            error = errors[epoch - 1]
            if error is not None:
                yield {"layer": name, "from": before, "epoch": epoch, "error": round(error, 5)}
            before = epoch


def _heat_map(layers: LayerErrors, num_epochs: int) -> Any:
    height = 18 if len(layers.names) <= 40 else 11
    axis = alt.Axis(labelLimit=170, labelFontSize=min(12, height - 1), labelOverlap=False)
    epochs = alt.Scale(domain=[0, num_epochs], nice=False)
    colour = alt.Color(
        "error:Q",
        title="relative error",
        scale=alt.Scale(scheme="viridis"),
        legend=alt.Legend(gradientLength=240, format="~g", tickCount=3),
    )
    rectangles = alt.Chart(alt.NamedData("layers")).mark_rect().encode(
        alt.X("from:Q", title="epoch", scale=epochs, axis=alt.Axis(format="d", tickMinStep=1)),
        alt.X2("epoch:Q"),
        alt.Y("layer:N", title=None, sort=list(layers.names), axis=axis),
        colour,
        tooltip=[
            alt.Tooltip("layer:N"),
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("error:Q", title="relative error", format=".4f"),
        ],
    )  # fmt: skip
    steps = alt.Chart(alt.NamedData("steps")).mark_rule(strokeDash=[4, 3], stroke=INK).encode(
        alt.X("epoch:Q", title="epoch", scale=epochs),
        tooltip=[alt.Tooltip("epoch:Q"), alt.Tooltip("ratio:Q", title="ratio before")],
    )  # fmt: skip
    return sized(alt.layer(rectangles, steps), height * len(layers.names))

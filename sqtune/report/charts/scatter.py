"""Networks by error and cost: marks with bars, the front, and a legend of whatever is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from sqtune.report.charts.style import (
    FRONT,
    INK,
    PAPER,
    SERIES,
    SHAPES,
    SOFT,
    axis_of,
    is_logarithmic,
    scale,
    sized,
)

Row = dict[str, Any]
NAMES = ("binary", "ternary", "uniform", "lsq", "lsq_ternary", "several", "float")
STEP = 7  # pixels between marks of equal cost
PLACES = 7  # that marks of equal cost share
BESIDE = 13  # pixels from these to a mean over new seeds
ASIDE = alt.expr("datum.aside")
ROOM = 30  # pixels left and right of all costs, so that what stands aside has room
CAP = "M-1,0L1,0"  # of a bar, as an SVG path
FRONT_MARK, MEAN, BAR, REFERENCE = "front", "mean over new seeds", "standard error", "reference"
# What stands in the legend, beside the ring: shapes as SVG paths.
LOOKS = {
    FRONT_MARK: (FRONT, "M-1,-.7L0,-.7L0,.7L1,.7"),
    MEAN: (INK, "diamond"),
    BAR: (SOFT, "M-.4,-1L.4,-1M0,-1L0,1M-.4,1L.4,1"),
    REFERENCE: (SOFT, "M-1,0L-.3,0M.3,0L1,0"),
}


def stand_beside(trials: Sequence[Row], means: Sequence[Row]) -> None:
    """Give rows of equal cost places beside each other: `aside`, in pixels.

    Args:
        trials: The best first: it stays where its cost is.
        means: They stand to the right of trials.
    """
    taken: dict[float, list[int]] = {}
    for row in trials:
        places = taken.setdefault(row["cost"], [])
        turn = len(places) % PLACES
        row["aside"] = (turn + 1) // 2 * (STEP if turn % 2 else -STEP)
        places.append(row["aside"])
    for row in means:
        places = taken.setdefault(row["cost"], [])
        row["aside"] = max(places) + BESIDE if places else 0
        places.append(row["aside"])


def scatter(rows: Mapping[str, Sequence[Row]], title: str, unit: str) -> alt.LayerChart:
    """Return error against cost.

    Args:
        rows: By name: trials, front, confirmed, lines, winner, and what the legend has as roles.
        title: Of the axis of costs.
        unit: Of a cost, as a mark tells it.
    """
    both = [row for name in ("trials", "confirmed") for row in rows[name]]
    costs = scale([row["cost"] for row in both])
    costs["padding"] = ROOM
    x = alt.X("cost:Q", title=title, scale=costs, axis=axis_of(costs, grid=False))
    seen = [row["error"] for row in (*both, *rows["lines"])]
    ends = [row[end] for row in both for end in ("low", "high")]
    errors = scale([*seen, *ends], log=is_logarithmic(seen))

    def y(field: str = "error") -> alt.Y:
        return alt.Y(f"{field}:Q", title="validation error (%)", scale=errors, axis=axis_of(errors))

    trials, again = alt.Chart(alt.NamedData("trials")), alt.Chart(alt.NamedData("confirmed"))
    winner = alt.Chart(alt.NamedData("winner"))
    by_kind = _by_kind(rows["trials"])
    tooltip = [
        alt.Tooltip("trial:Q", title="trial"),
        alt.Tooltip("error:Q", title="error (%)", format=".2f"),
        alt.Tooltip("cost:Q", title=unit, format=",.1f"),
        alt.Tooltip("bits:N", title="bits"),
        alt.Tooltip("quantizer:N", title="quantizer"),
    ]
    front = alt.Chart(alt.NamedData("front")).mark_line(
        interpolate="step-after", stroke=FRONT, strokeWidth=3.5, opacity=0.7
    )
    marks = trials.mark_point(size=60, strokeWidth=1.5, opacity=1, xOffset=ASIDE)
    means = again.mark_point(
        shape="diamond", size=170, stroke=INK, fill=PAPER, strokeWidth=2, opacity=1, xOffset=ASIDE
    )
    ring = winner.mark_point(
        shape="circle", size=320, stroke=INK, strokeWidth=2, opacity=1, xOffset=ASIDE
    )
    how_written: Row = {"dy": -18, "fontWeight": "bold", "xOffset": ASIDE}
    name = winner.encode(x, y(), text="name:N")
    about_means = [
        alt.Tooltip("trial:Q", title="trial"),
        alt.Tooltip("error:Q", title="mean (%)", format=".2f"),
        alt.Tooltip("seeds:Q", title="new seeds"),
    ]
    drawn = alt.layer(
        *_lines(y()),
        front.encode(x, y(), order=alt.Order("cost:Q")),
        *_bars(trials, x, y, 0.55, stroke=by_kind["stroke"], tooltip=tooltip),
        marks.encode(
            x,
            y(),
            **by_kind,
            fillOpacity=alt.condition("datum.filled", alt.value(0.7), alt.value(0)),
            tooltip=tooltip,
        ),
        *_bars(again, x, y, 1, stroke=alt.value(INK), tooltip=about_means),
        means.encode(x, y(), tooltip=about_means),
        ring.encode(x, y(), tooltip=tooltip),
        name.mark_text(stroke=PAPER, strokeWidth=3, strokeJoin="round", **how_written),
        name.mark_text(**how_written),
    )
    whole = alt.layer(drawn, _legend(rows["roles"]).encode(x, y())).resolve_scale(
        stroke="independent", shape="independent", fill="independent"
    )
    found: alt.LayerChart = sized(whole, 360)
    return found


def _by_kind(trials: Sequence[Row]) -> dict[str, Any]:
    """Return how marks differ by the kind of their weights."""
    seen = {row["kind"] for row in trials}
    places = [place for place, name in enumerate(NAMES) if name in seen]
    kinds = [NAMES[place] for place in places]
    colours = alt.Scale(domain=kinds, range=[SERIES[place] for place in places])
    shapes = alt.Scale(domain=kinds, range=[SHAPES[place] for place in places])
    legend = alt.Legend(title="weights", symbolOpacity=1)
    return {
        "stroke": alt.Stroke("kind:N", scale=colours, legend=legend),
        "shape": alt.Shape("kind:N", scale=shapes, legend=legend),
        "fill": alt.Fill("kind:N", scale=colours, legend=legend),
    }


def _bars(
    data: alt.Chart, x: alt.X, y: Callable[[str], alt.Y], opacity: float, **looks: Any
) -> Iterator[alt.Chart]:
    """Yield bars from low to high, and a cap at either end."""
    thin: Row = {"strokeWidth": 1.25, "opacity": opacity, "xOffset": ASIDE}
    yield data.mark_rule(**thin).encode(x, y("low"), alt.Y2("high:Q"), **looks)
    for end in ("low", "high"):
        yield data.mark_point(shape=CAP, size=36, **thin).encode(x, y(end), **looks)


def roles_of(rows: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return what the legend tells of beside the kinds of weights, as rows of marks not drawn."""
    spread = any(row["low"] < row["high"] for row in (*rows["trials"], *rows["confirmed"]))
    drawn = {
        FRONT_MARK: len(rows["front"]) > 1,
        MEAN: rows["confirmed"],
        BAR: spread,
        REFERENCE: rows["lines"],
    }
    names = [row["name"] for row in rows["winner"]] + [name for name in drawn if drawn[name]]
    place = {key: rows["trials"][0][key] for key in ("cost", "error")}
    return [{**place, "role": name} for name in names]


def _legend(roles: Sequence[Row]) -> alt.Chart:
    names = [row["role"] for row in roles]
    looks = [LOOKS.get(name, (INK, "circle")) for name in names]  # the winner's name has a ring
    legend = alt.Legend(title=None, columns=2)  # a phone has room for no more
    marks = alt.Chart(alt.NamedData("roles")).mark_point(size=0, strokeWidth=2, opacity=1)
    found: alt.Chart = marks.encode(
        alt.Stroke(
            "role:N",
            legend=legend,
            scale=alt.Scale(domain=names, range=[colour for colour, _ in looks]),
        ),
        alt.Shape(
            "role:N",
            legend=legend,
            scale=alt.Scale(domain=names, range=[shape for _, shape in looks]),
        ),
    )
    return found


def _lines(y: alt.Y) -> Iterator[alt.Chart]:
    lines = alt.Chart(alt.NamedData("lines"))
    yield lines.mark_rule(strokeDash=[6, 4], stroke=SOFT, strokeWidth=1.5).encode(y)
    for where, x in (("datum.middle", alt.expr("width / 2")), ("!datum.middle", 8)):
        text = lines.transform_filter(where).mark_text(
            align="left", baseline="bottom", dy=-2, color=SOFT, fontSize=11
        )
        yield text.encode(y, text="label:N", x=alt.value(x))

"""What all charts share: colours that a page may change, how marks differ, and ranges of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

Spec = dict[str, Any]

# Custom properties of report/page.css, whose values differ on a light ground (which paper is) and a
# dark one. What stands here is for pictures, which have a white background. Okabe and Ito: told
# apart by everybody.
COLOURS = {
    "var(--ink)": "#1b1f24",
    "var(--soft)": "#57606a",
    "var(--grid)": "#d8dee4",
    "var(--paper)": "#ffffff",
    "var(--front)": "#7a3fb0",
    "var(--c0)": "#0072b2",
    "var(--c1)": "#d55e00",
    "var(--c2)": "#009e73",
    "var(--c3)": "#cc79a7",
    "var(--c4)": "#e69f00",
    "var(--c5)": "#56b4e9",
    "var(--c6)": "#7f7f7f",
}
INK, SOFT, GRID, PAPER, FRONT, *SERIES = COLOURS
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
# The still pictures are measured where no font of the page's is: in Liberation Sans, whose letters
# are as wide as those of Arial and Helvetica. In another font labels would be cut.
FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": GRID,
        "domainColor": SOFT,
        "tickColor": SOFT,
    },
    "legend": {
        "orient": "top",
        "labelColor": INK,
        "titleColor": SOFT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolSize": 90,
        "columns": 3,
        "labelLimit": 240,
        "layout": {"top": {"direction": "vertical", "margin": 4}},
    },
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": SOFT},
}
HEIGHT = 320  # pixels
STILL_WIDTH = 760  # pixels of a chart where nothing says how wide it is
LOG_FROM = 8.0  # times the smallest value: from here on an axis is logarithmic


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as the page shows it.

    Attributes:
        key: A short name, also of its file.
        title: What stands above it.
        caption: How to read it.
        alt: What it shows, for those who do not see it.
        parts: Vega-Lite specifications, one below the other, as wide as their box.
        least_width: Pixels below which it scrolls in its box.
        still_width: Pixels of its still picture.
        source: Which study and trial it is of.
    """

    key: str
    title: str
    caption: str
    alt: str
    parts: tuple[Spec, ...]
    least_width: int = 0
    still_width: int = STILL_WIDTH
    source: str = ""


def spec(
    chart: alt.Chart | alt.LayerChart, rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Spec:
    """Return a chart as plain data, with the rows of its data sets by name."""
    content: Spec = chart.to_dict()
    content.pop("$schema")
    return {
        **content,
        "config": CONFIG,
        "datasets": {name: list(each) for name, each in rows.items()},
    }


def sized(chart: Any, height: int = HEIGHT) -> Any:
    """Return a chart as wide as its box."""
    return chart.properties(width="container", height=height)


def is_logarithmic(values: Iterable[float]) -> bool:
    """Tell whether values are better shown on a logarithmic axis.

    >>> is_logarithmic([1, 9]), is_logarithmic([0, 9]), is_logarithmic([2, 3])
    (True, False, False)
    """
    known = list(values)
    return bool(known) and min(known) > 0 and max(known) >= LOG_FROM * min(known)


def scale(values: Iterable[float], *, log: bool | None = None) -> alt.Scale:
    """Return a scale that leaves a little room around values, also where there is but one.

    Args:
        values: All that is to be seen; finite.
        log: Whether it is logarithmic; None decides by the values.
    """
    known = list(values) or [0.0, 1.0]
    log = is_logarithmic(known) if log is None else log
    low, high = min(known), max(known)
    if log:
        room = max(high / low, 1.1) ** 0.06
        return alt.Scale(type="log", domain=[low / room, high * room], nice=False)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    floor = 0.0 if low >= 0 else -math.inf
    return alt.Scale(domain=[max(floor, low - room), high + room], nice=False, zero=False)


def lowest_end(values: Sequence[float]) -> float:
    """Return the least that the lower end of a bar about one of the values may be.

    A logarithmic axis has no 0: there it is a tenth of the smallest value.

    >>> lowest_end([0.5, 4]), lowest_end([0.5, 2])
    (0.05, 0.0)
    """
    return min(values) / 10 if is_logarithmic(values) else 0.0


def axis_of(values: alt.Scale, lines: int = 8, **looks: Any) -> alt.Axis:
    """Return an axis on which every line has its figure.

    Args:
        values: Of `scale`.
        lines: About how many.
        looks: What else it is told.
    """
    low, high = values["domain"]
    found = round_values(low, high, 3 * lines // 2) if values["type"] == "log" else []
    if found:
        return alt.Axis(format="~g", values=found, **looks)
    return alt.Axis(format="~g", tickCount=lines, **looks)


def round_values(low: float, high: float, most: int) -> list[float]:
    """Return round values of a part of a logarithmic axis.

    They are 1, 2, 5 and these times powers of ten; where these are fewer than three also some
    between them, and where they are more than `most` powers of ten alone.

    >>> round_values(0.45, 12, 8), round_values(0.6, 4.5, 8)
    ([0.5, 1.0, 2.0, 5.0, 10.0], [0.7, 1.0, 1.5, 2.0, 3.0])
    >>> round_values(0.002, 900, 6)
    [0.01, 0.1, 1.0, 10.0, 100.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def within(*steps: float) -> list[float]:
        known = [float(f"{step}e{decade}") for decade in decades for step in steps]
        return [value for value in known if low <= value <= high]

    found = within(1, 2, 5)
    if len(found) < 3:
        found = within(1, 1.5, 2, 3, 5, 7)
    if len(found) > most:
        found = within(1)
    return found[:: math.ceil(len(found) / most) or 1]


def wrapped(text: str, width: int = 24, most_lines: int = 3) -> str:
    """Return a text in lines, the rest of a long one left out.

    >>> wrapped("stages ratios=[0, 1]", 12).splitlines()
    ['stages', 'ratios=[0,', '1]']
    """
    import textwrap

    return "\n".join(
        textwrap.wrap(text, width, max_lines=most_lines, placeholder=" …", break_on_hyphens=False)
        or [text[:width]]
    )

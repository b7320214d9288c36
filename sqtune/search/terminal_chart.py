"""A scatter of positive figures on logarithmic axes, drawn with the characters of a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

FEWEST_ROWS = 6  # a legend, three rows of points, an axis and its numbers
FEWEST_COLUMNS = 30
SMALLEST, MARGIN = 1e-9, 1.1


@dataclass(frozen=True, slots=True)
class Series:
    """Points that are marked alike.

    Attributes:
        name: In the legend.
        mark: One character, and another one where there is only ASCII.
        style: Rich's; no two series differ by it alone.
        points: x and y.
    """

    name: str
    mark: tuple[str, str]
    style: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis; what is not positive lies at its lower end.

    Attributes:
        low: The figure at its lower end.
        high: And at its upper end.
        has_zero: Whether its lower end stands for 0.
    """

    low: float
    high: float
    has_zero: bool = False

    @classmethod
    def around(cls, figures: Iterable[float]) -> Axis:
        """Return an axis that has room for all figures."""
        figures = list(figures)
        positive = [figure for figure in figures if figure > SMALLEST]
        low, high = min(positive, default=1.0), max(positive, default=1.0)
        zero = len(positive) < len(figures)
        return cls(low / (2 * MARGIN if zero else MARGIN), high * MARGIN, zero)

    def place(self, figure: float, num_cells: int) -> int:
        """Return in which of so many cells a figure lies, counted from the lower end."""
        if figure <= self.low:
            return 0
        share = math.log(figure / self.low) / math.log(self.high / self.low)
        return min(num_cells - 1, int(share * num_cells))

    def ticks(self, most: int) -> list[float]:
        """Return at most so many round figures on the axis, in order.

        >>> Axis(1.4, 33.0).ticks(4), Axis(14.0, 36.0).ticks(5)
        ([2.0, 5.0, 10.0, 20.0], [15.0, 20.0, 25.0, 30.0, 35.0])
        """
        found = [0.0] if self.has_zero else []
        for candidates in self._candidates():
            within = [figure for figure in candidates if self.low < figure < self.high]
            if 0 < len(within) <= most - len(found):
                return found + within
        return found

    def _candidates(self) -> Iterable[list[float]]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        if self.high < 5 * self.low:  # equal steps
            step = 10.0 ** powers[0] / 10
            for times in (1, 2, 5, 10, 20, 50, 100):
                first, last = int(self.low / step / times), int(self.high / step / times) + 1
                yield [round(i * step * times, 12) for i in range(first, last + 1)]
        for mantissas in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            yield [float(f"{mantissa}e{power}") for power in powers for mantissa in mantissas]


def scatter(
    series: Sequence[Series],
    *,
    width: int,
    height: int,
    x_name: str,
    y_name: str,
    ascii_only: bool = False,
) -> list[Text]:
    """Return a chart as lines, none longer than `width`; later series lie above earlier ones.

    Args:
        series: What is drawn; at least one point in all.
        width: Columns there are; at least `FEWEST_COLUMNS`.
        height: Lines that are returned; at least `FEWEST_ROWS`.
        x_name: What the horizontal axis shows, with its unit.
        y_name: What the vertical axis shows, likewise.
        ascii_only: Whether there are no other characters.
    """
    corner, bar, tick, dash, stem = "+|+-+" if ascii_only else "└│┤─┬"
    points = [point for one in series for point in one.points]
    x_axis, y_axis = (Axis.around(point[i] for point in points) for i in (0, 1))
    rows = height - 3
    y_labels: dict[int, str] = {}
    for figure in y_axis.ticks(max(2, rows // 2 + 1)):
        y_labels.setdefault(y_axis.place(figure, rows), f"{figure:,.12g}")
    margin = max([4, *(len(label) + 1 for label in y_labels.values())])
    columns = width - margin - 2
    cells = [[Text(" ")] * columns for _ in range(rows)]
    for one in series:
        mark = Text(one.mark[ascii_only], one.style)
        for x, y in one.points:
            cells[y_axis.place(y, rows)][x_axis.place(x, columns)] = mark
    lines = [_legend(series, y_name, ascii_only)]
    for row in reversed(range(rows)):
        edge = tick if row in y_labels else bar
        lines.append(
            Text(f"{y_labels.get(row, ''):>{margin}} {edge}").append_text(_joined(cells[row]))
        )
    axis, numbers = _x_axis(x_axis, columns, x_name, dash, stem)
    lines.append(Text(f"{'':{margin}} {corner}{axis}"))
    lines.append(Text(f"{'':{margin}}  {numbers}"))
    return [line[:width] for line in lines]


def _joined(cells: Iterable[Text]) -> Text:
    line = Text().join(cells)
    line.rstrip()
    return line


def _legend(series: Sequence[Series], y_name: str, ascii_only: bool) -> Text:
    line = Text(y_name)
    for one in reversed(series):
        if one.points:
            line.append("   ").append(one.mark[ascii_only], one.style).append(f" {one.name}")
    return line


def _x_axis(axis: Axis, columns: int, name: str, dash: str, stem: str) -> tuple[str, str]:
    """Return the line of a horizontal axis and the one of its numbers, with the name at its end."""
    room = columns - cell_len(name) - 2
    line, numbers = [dash] * columns, ""
    for figure in axis.ticks(max(2, columns // 9)):
        place, label = axis.place(figure, columns), f"{figure:,.12g}"
        start = max(0, place - len(label) // 2)
        if start + len(label) > room or (numbers and start < len(numbers) + 2):
            continue
        line[place] = stem
        numbers = f"{numbers:{start}}{label}"
    return "".join(line), f"{numbers:{max(0, room)}}  {name}"

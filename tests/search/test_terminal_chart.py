"""Charts of characters: every point where its figures are, axes whose numbers are true."""

from __future__ import annotations

import math

import pytest

from sqtune.search.terminal_chart import FEWEST_ROWS, Axis, Series, scatter

POINTS = [(15.6, 10.2), (21.9, 3.1), (28.0, 1.8), (34.2, 30.0)]


def drawn(points, width=80, height=12, **options):
    one = Series("front", ("●", "o"), "", points)
    lines = scatter([one], width=width, height=height, x_name="KiB", y_name="error %", **options)
    assert len(lines) == height
    assert all(len(line.plain) <= width for line in lines)
    return [line.plain for line in lines]


def test_a_smaller_figure_is_further_left_and_lower():
    _, *rows, _, _ = drawn(POINTS)
    found = sorted((row.index("●"), -i) for i, row in enumerate(rows) if "●" in row)
    assert len(found) == len(POINTS)
    heights = [height for _, height in found]
    assert [sorted(heights).index(height) for height in heights] == [2, 1, 0, 3]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_numbers_stand_where_their_figures_lie(width):
    points = [(16.0, 2.0), (20.0, 5.0), (32.0, 20.0)]
    _, *rows, axis, numbers = drawn(points, width, 14)
    labels = {row.split("┤")[0].strip(): row for row in rows if "┤" in row}
    assert "●" in labels["20"]
    assert "●" in labels["2"]
    places = [place for place, letter in enumerate(axis) if letter == "┬"]
    figures = [float(text) for text in numbers.replace("KiB", "").split()]
    assert len(places) == len(figures) >= 2
    (twenty,) = [place for place, figure in zip(places, figures, strict=True) if figure == 20]
    assert labels["5"][twenty] == "●" if "5" in labels else any(r[twenty:][:1] == "●" for r in rows)


def test_later_series_lie_above_earlier_ones_and_each_has_a_mark_of_its_own():
    series = [
        Series("others", ("·", "."), "", [(10.0, 1.0), (20.0, 4.0)]),
        Series("best", ("◆", "@"), "bold green", [(10.0, 1.0)]),
        Series("none", ("x", "x"), "", []),
    ]
    text = "\n".join(
        line.plain for line in scatter(series, width=60, height=8, x_name="KiB", y_name="error %")
    )
    legend, *rest = text.splitlines()
    assert legend == "error %   ◆ best   · others"
    assert "\n".join(rest).count("◆") == "\n".join(rest).count("·") == 1


def test_ascii_is_ascii():
    legend, *lines = drawn(POINTS, ascii_only=True)
    assert legend == "error %   o front"
    assert all(line.isascii() for line in lines)
    assert "".join(lines).count("o") == len(POINTS)


@pytest.mark.parametrize(
    "points",
    [
        [(15.6, 0.0)],
        [(15.6, 3.0)],
        [(15.6, 0.0), (15.6, 50.0)],
        [(15.6, 3.0)] * 5,
        [(0.4, 90.0), (240_000.0, 0.02)],
        [(11_000.0, 30.0), (11_001.0, 30.1)],
    ],
)
@pytest.mark.parametrize("width", [40, 80])
def test_any_figures_have_a_chart(points, width):
    for height in (FEWEST_ROWS, 12):
        lines = drawn(points, width, height)
        assert any("●" in line for line in lines[1:])


def test_no_error_at_all_is_a_line_of_its_own():
    *_, lowest, _, _ = drawn([(15.6, 0.0), (20.0, 1.0), (30.0, 8.0)])
    assert lowest.startswith("   0 ┤")
    assert lowest.count("●") == 1


@pytest.mark.parametrize(("low", "high"), [(1.4, 33), (15, 36), (0.02, 90), (11_000, 250_000)])
@pytest.mark.parametrize("most", [2, 4, 8])
def test_ticks_are_round_increasing_and_within(low, high, most):
    ticks = Axis(low, high).ticks(most)
    assert len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(low < tick < high for tick in ticks)
    for tick in ticks:
        digits = tick / 10 ** math.floor(math.log10(tick))
        assert round(digits * 10) == pytest.approx(digits * 10)

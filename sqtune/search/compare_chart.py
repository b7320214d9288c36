"""A comparison as a picture. Only here is matplotlib imported."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from sqtune.search.compare import Row
from sqtune.search.compare_table import budget_text

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: told apart by everybody
MARKERS = ("o", "s", "^", "v")
WIDTH_PER_METHOD, HEIGHT = 1.15, 4.0  # inches


def chart(
    title: str, rows: Sequence[Row], num_epochs: int, kind: Literal["svg", "png"] = "svg"
) -> bytes:
    """Return a chart: every seed a small dot, means large with their standard deviation.

    Args:
        title: What stands above it.
        rows: At least one.
        num_epochs: Epochs of one stage.
        kind: `svg`, or `png` at 150 dots an inch.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    budgets = list(rows[0].cells)
    style: Any = {"svg.hashsalt": "sqtune", "svg.fonttype": "none", "font.size": 10.0}
    with mpl.rc_context(style):
        width = max(5.5, WIDTH_PER_METHOD * len(rows) + 1.5)
        figure = Figure(figsize=(width, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for index, budget in enumerate(budgets):
            shift = 0.22 * (index - (len(budgets) - 1) / 2)
            colour, marker = COLOURS[index % 4], MARKERS[index % 4]
            label: str | None = budget_text(budget, num_epochs)
            for place, row in enumerate(rows):
                cell = row.cells[budget]
                if cell.mean is None:
                    continue
                seeds = [100 * error for error in cell.test_errors.values()]
                axes.plot([place + shift] * len(seeds), seeds, ".", color=colour, alpha=0.45)
                spread = None if cell.deviation is None else 100 * cell.deviation
                axes.errorbar(
                    place + shift, 100 * cell.mean, spread,
                    fmt=marker, color=colour, capsize=3, label=label,
                )  # fmt: skip
                label = None
        known = [
            (place, 100 * row.method.published)
            for place, row in enumerate(rows)
            if row.method.published is not None
        ]
        if known:
            axes.plot(*zip(*known, strict=True), "_", color="black", ms=26, mew=1.5,
                      label="published")  # fmt: skip
        axes.set_xticks(range(len(rows)), [row.method.name for row in rows])
        axes.tick_params(axis="x", labelrotation=0 if len(rows) < 8 else 30)
        axes.set(ylabel="test error (%)", title=title, xlim=(-0.6, len(rows) - 0.4))
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
        written = io.BytesIO()
        dated: Any = {"Date": None} if kind == "svg" else {}
        figure.savefig(written, format=kind, dpi=150, metadata=dated)
    return written.getvalue()

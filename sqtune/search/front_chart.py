"""A study's front as a picture: error against size. With compare_chart.py, matplotlib's owner."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sqtune.search import pareto
from sqtune.search.compare_chart import COLOURS
from sqtune.search.pareto import standard_error
from sqtune.search.records import TrialRecord

SIZE = (7.0, 4.2)  # inches
MOST_LABELS = 12


class FrontChart(Figure):
    """A figure that notebooks show without pyplot, which would show it twice."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        with warnings.catch_warnings():  # a box in the title stands for a letter without a font
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            self.savefig(written, format="png", dpi=110)
        return written.getvalue()


def front_chart(title: str, trials: Sequence[TrialRecord], front: Sequence[int]) -> FrontChart:
    """Return a chart: the finished trials as dots, those of the front filled and numbered.

    The line joins the front of error and size, of which another front may have but a part.

    Args:
        title: What stands above it.
        trials: Of a study; those that have no error or no size are left out.
        front: Numbers of the trials of the front of the study's objectives.
    """
    figure = FrontChart(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    known = [_Dot.of(trial) for trial in trials if trial.val_error is not None and trial.size_bytes]
    known.sort(key=lambda dot: dot.kib)
    chosen = [dot for dot in known if dot.number in front]
    others = [dot for dot in known if dot.number not in front]
    if others:
        dots = [dot.kib for dot in others], [dot.percent for dot in others]
        axes.plot(*dots, ".", color="0.6", label="other trials")
    if chosen:
        axes.errorbar(
            [dot.kib for dot in chosen], [dot.percent for dot in chosen],
            [dot.standard_error for dot in chosen],
            fmt="o", color=COLOURS[0], capsize=3, label="front",
        )  # fmt: skip
        line = [_Dot.of(trial) for trial in reversed(pareto.front(trials))]
        steps = [dot.kib for dot in line], [dot.percent for dot in line]
        axes.plot(*steps, color=COLOURS[0], drawstyle="steps-post")
        for dot in chosen[:MOST_LABELS]:
            place = (dot.kib, dot.percent)
            axes.annotate(str(dot.number), place, xytext=(5, 5), textcoords="offset points")
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "no trial has finished", ha="center", transform=axes.transAxes)
    if known and known[-1].kib > 4 * known[0].kib:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda kib, _: f"{kib:g}"))
    axes.set(xlabel="size (KiB)", ylabel="validation error (%)")
    axes.set_title(title, parse_math=False)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True, slots=True)
class _Dot:
    number: int
    kib: float
    percent: float
    standard_error: float

    @classmethod
    def of(cls, trial: TrialRecord) -> _Dot:
        """Return a finished trial's place."""
        error, images = trial.val_error or 0.0, trial.facts.get("num_validation")
        known = 100 * standard_error(error, images) if images else 0.0
        return cls(trial.number, (trial.size_bytes or 0) / 1024, 100 * error, known)

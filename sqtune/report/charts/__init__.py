"""Charts as Vega-Lite specifications. Only in this package is Altair imported."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqtune.report.charts.confirmation import confirmation_chart
from sqtune.report.charts.curves import curves_chart, layers_chart
from sqtune.report.charts.ended import comparison_chart, epochs_chart, none_saved, stopped_chart
from sqtune.report.charts.front import front_chart, operations_chart
from sqtune.report.charts.mattered import importance_chart, slice_charts
from sqtune.report.charts.parallel import parallel_chart
from sqtune.report.charts.style import Chart
from sqtune.report.facts import Report

__all__ = ["Chart", "Charts", "charts_of"]


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of a page, by section; what there is nothing to show of is left out.

    Attributes:
        compared: Methods beside each other.
        front: Error against cost.
        mattered: Importance and parallel coordinates.
        slices: Error against each searched value.
        trained: Learning curves and layers.
        ended: Stops and savings.
        none_saved: What is said where there were no savings; may be empty.
    """

    compared: tuple[Chart, ...]
    front: tuple[Chart, ...]
    mattered: tuple[Chart, ...]
    slices: tuple[Chart, ...]
    trained: tuple[Chart, ...]
    ended: tuple[Chart, ...]
    none_saved: str

    def all(self) -> tuple[Chart, ...]:
        """Return all of them, in the page's order."""
        mattered = (*self.mattered, *self.slices)
        return (*self.compared, *self.front, *mattered, *self.trained, *self.ended)


def charts_of(report: Report) -> Charts:
    """Return the charts of a study."""
    searched = report.is_search
    compared = None if report.comparison is None else comparison_chart(report.comparison)
    source = f"Study {report.name}"
    if report.winner is not None:
        source += f", trial {report.winner.number}"

    def known(*charts: Chart | None) -> tuple[Chart, ...]:
        return tuple(replace(chart, source=source) for chart in charts if chart is not None)

    return Charts(
        compared=known(compared),
        front=known(front_chart(report), operations_chart(report), confirmation_chart(report)),
        mattered=known(importance_chart(report), parallel_chart(report)) if searched else (),
        slices=known(*slice_charts(report)) if searched else (),
        trained=known(curves_chart(report), layers_chart(report)),
        ended=known(stopped_chart(report), epochs_chart(report)),
        none_saved=none_saved(report),
    )

"""Figures with their pedigree: a table on the screen, JSON in benchmarks/results/."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqtune.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: What was measured.
        unit: Of the values; empty for a ratio.
        values: One per measurement, at least one.
        bound: What the claim allows; None where nothing is claimed.
        claim: Which statistic of the values the bound is on.
        direction: Whether it allows the bound at most or at least.
    """

    name: str
    unit: str
    values: Sequence[float]
    bound: float | None = None
    claim: Literal["median", "max", "min"] = "max"
    direction: Literal["at most", "at least"] = "at most"

    def summary(self) -> dict[str, Any]:
        """Return the figure as plain data: its values, their statistics, bound and verdict."""
        values = list(self.values)
        facts: dict[str, Any] = {
            "unit": self.unit,
            "n": len(values),
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "quartiles": quartiles(values),
            "values": values,
        }
        if self.bound is not None:
            value = facts[self.claim]
            met = value <= self.bound if self.direction == "at most" else value >= self.bound
            facts |= {"bound": self.bound, "bound_is_on": self.claim, "met": met}
            facts["bound_is"] = self.direction
        return facts


def quartiles(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the first and the third quartile; None for a single value."""
    if len(values) < 2:
        return None
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


class Pedigree:
    """Where and when figures were measured; made before the measurement begins."""

    def __init__(self) -> None:
        script = Path(sys.argv[0]).name
        self._facts = {
            "command": shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "load_average_before": list(os.getloadavg()),
            "hardware": provenance(),
        }
        self._facts["commit"] = self._facts["hardware"]["commit"]

    def line(self) -> str:
        """Return hardware, version of torch, commit, day and command in one line."""
        machine = self._facts["hardware"]
        return (
            f"{machine['cpu']}, {machine['cpus']} CPUs, torch {machine['version.torch']}, "
            f"Python {machine['python']}, commit {self._facts['commit']}, "
            f"{self._facts['date'][:10]}: `{self._facts['command']}`"
        )

    def report(
        self,
        name: str,
        figures: Sequence[Figure],
        *,
        settings: Mapping[str, Any],
        seeds: Mapping[str, int],
        notes: Sequence[str],
        save: bool,
        table: str | None = None,
        folder: Path = RESULTS,
    ) -> None:
        """Print the figures and, with `save`, write them to NAME.json in a folder.

        Args:
            name: Of the benchmark.
            figures: What was measured.
            settings: How.
            seeds: By name.
            notes: Printed below the table, and stored.
            save: Whether anything is written.
            table: Markdown to print instead of the plain table, and to write to NAME.md.
            folder: Where to write; by default benchmarks/results.
        """
        if table is None:
            print_table(figures)
        else:
            print(f"\n{table}")
        for note in notes:
            print(f"note: {note}")
        if not save:
            return
        content = {
            "benchmark": name,
            **self._facts,
            "settings": dict(settings),
            "seeds": dict(seeds),
            "figures": {figure.name: figure.summary() for figure in figures},
            "notes": list(notes),
        }
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        if table is not None:
            (folder / f"{name}.md").write_text(f"{table}\n", encoding="utf-8")
        print(f"written to {folder / name}.json")


def print_table(figures: Sequence[Figure]) -> None:
    width = max(len(figure.name) for figure in figures)
    print(f"\n{'figure':<{width}}  {'n':>3} {'median':>9} {'min':>9} {'max':>9}  bound")
    for figure in figures:
        facts = figure.summary()
        numbers = " ".join(f"{facts[key]:9.3f}" for key in ("median", "min", "max"))
        verdict = figure.unit
        if figure.bound is not None:
            met = "met" if facts["met"] else "MISSED"
            verdict += f"  {figure.claim} {figure.direction} {figure.bound:g}: {met}"
        print(f"{figure.name:<{width}}  {facts['n']:>3} {numbers}  {verdict.strip()}")

"""The figures of benchmarks/step_tax.py and their tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from _methods import FLOAT, Method
from _results import Figure, quartiles

BOUNDS = {("cpu", 128): 1.02, ("cpu", 32): 1.04, ("cuda", 128): 1.05}  # by device type and batch


@dataclass(frozen=True, slots=True)
class Timed:
    """Step times of one network and batch size.

    Attributes:
        network: Its name.
        batch: Images a step.
        device: Device type.
        rounds: Seconds a step by method, one mapping a round; float is in each.
    """

    network: str
    batch: int
    device: str
    rounds: list[dict[str, float]]

    def bound(self, method: Method) -> float | None:
        """Return what the claim allows at most; None where nothing is claimed."""
        return BOUNDS.get((self.device, self.batch)) if method.claimed else None

    def ratios(self, method: Method) -> list[float]:
        """Return the step tax of each round the method took part in."""
        return [
            round(one[method.name] / one[FLOAT.name], 5)
            for one in self.rounds
            if method.name in one
        ]

    def seconds(self, method: Method) -> float:
        """Return the median time of a step."""
        return statistics.median(one[method.name] for one in self.rounds if method.name in one)

    def ratio_of_medians(self, method: Method) -> float:
        """Return the median step over the median float step of the same rounds."""
        floats = [one[FLOAT.name] for one in self.rounds if method.name in one]
        return self.seconds(method) / statistics.median(floats)


@dataclass(frozen=True, slots=True)
class Alone:
    """One method's hybrid() by itself, on one network.

    Attributes:
        network: Its name.
        method: The method's name.
        milliseconds: Of entering and leaving an empty block, one per measurement.
        held: Bytes the object holds over bytes of the quantized weights.
        taken: Bytes that entering takes at its peak and gives back, likewise.
    """

    network: str
    method: str
    milliseconds: list[float]
    held: float
    taken: float


def figures_of(
    timed: Sequence[Timed], alone: Sequence[Alone], methods: Sequence[Method]
) -> list[Figure]:
    """Return what was measured, with the bounds of what is claimed."""
    figures = []
    for one in timed:
        for method in methods:
            name = f"{one.network}, batch {one.batch}, {method.name}"
            tax = Figure(f"{name}: tax", "", one.ratios(method), one.bound(method), "median")
            medians = Figure(f"{name}: ratio of medians", "", [one.ratio_of_medians(method)])
            figures += [tax, medians, Figure(f"{name}: step", "s", [one.seconds(method)])]
    for entry in alone:
        name = f"{entry.network}, {entry.method}"
        figures += [
            Figure(f"{name}: hybrid() alone", "ms", entry.milliseconds),
            Figure(f"{name}: held", "weights", [entry.held]),
            Figure(f"{name}: taken while entering", "weights", [entry.taken]),
        ]
    return figures


def markdown_of(
    timed: Sequence[Timed], alone: Sequence[Alone], methods: Sequence[Method], about: str
) -> str:
    """Return Markdown: one table for each network and batch size, one for hybrid() alone."""
    lines = [about]
    for one in timed:
        title = f"{one.network}, batch {one.batch}"
        lines += [
            "",
            f"| {title} | step tax, median (quartiles) | ratio of medians | step | bound |",
        ]
        lines.append("|---|---|---|---|---|")
        for method in methods:
            tax = Figure("", "", one.ratios(method), one.bound(method), "median").summary()
            low, high = tax["quartiles"] or (tax["median"],) * 2
            bound = (
                f"{tax['bound']:g}: {'met' if tax['met'] else 'MISSED'}" if "bound" in tax else ""
            )
            lines.append(
                f"| {method.name} | {tax['median']:.3f} ({low:.3f} to {high:.3f}) "
                f"| {one.ratio_of_medians(method):.3f} | {1e3 * one.seconds(method):.1f} ms "
                f"| {bound} |"
            )
    if alone:
        lines += ["", "| hybrid() alone | enter and leave, median (quartiles) | held | taken |"]
        lines.append("|---|---|---|---|")
    for entry in alone:
        low, high = quartiles(entry.milliseconds) or (0.0, 0.0)
        lines.append(
            f"| {entry.network}, {entry.method} | {statistics.median(entry.milliseconds):.2f} ms "
            f"({low:.2f} to {high:.2f}) | {entry.held:.2f} | {entry.taken:.2f} |"
        )
    return "\n".join(lines)

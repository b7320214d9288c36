"""A study in a few words of Markdown, for the pages that MLflow has of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sqtune.config.options import Objective
from sqtune.search.choice import Choice
from sqtune.search.pareto import ERROR_AND_SIZE
from sqtune.search.records import TrialRecord
from sqtune.search.tables import bits_text, counts_text, quantizer_text, schedule_text
from sqtune.search.wording import count_text, kib, percent

MOST_ROWS = 12
ROOM = "&nbsp;"


def description(
    study: str,
    trials: Sequence[TrialRecord],
    choice: Choice | None,
    front: Sequence[TrialRecord],
    objectives: Sequence[Objective] = ERROR_AND_SIZE,
) -> str:
    """Return what a study came to: the best, the front as a table, where to find more.

    The targets of its links are `trial:NUMBER`, `front` and `charts`, for `Tracker.describe`.

    Args:
        study: Its name.
        trials: All of them.
        choice: What was handed over, or would be; None before any.
        front: Those of the front, the smallest error first.
        objectives: What the front is of.
    """
    parts = [f"{counts_text(trials)}."]
    if choice is not None:  # in the first paragraph, all that is shown of it at first
        link = f"[trial {choice.trial.number}](trial:{choice.trial.number})"
        words = ", ".join(filter(None, (choice.grounds, _words(choice.trial))))
        parts[0] = f"Best: {link}, {words}. {parts[0]}"
    if front:
        cells = [_cells(trial, objectives) for trial in front[:MOST_ROWS]]
        rows = [list(cells[0]), ["---"] * len(cells[0]), *(list(row.values()) for row in cells)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        left = len(front) - MOST_ROWS
        more = f", and {left} more" if left > 0 else ""
        parts.append(f"The front of {' and '.join(objectives)}{more}:")
        parts.append(table)
    parts.append("[The runs of the front alone](front) · [charts of all trials](charts)")
    name = shlex.quote(study)
    parts.append(f"In a terminal: `sqtune show {name}`, `sqtune best {name}`.")
    return "\n\n".join(parts)


def _words(trial: TrialRecord) -> str:
    error = percent(trial.val_error or 0.0, trial.facts.get("num_validation"))
    words = f"validation error {error} %"
    if trial.test_error is not None:
        words += f", test error {percent(trial.test_error, trial.facts.get('num_test'))} %"
    return f"{words}, {bits_text(trial)}, {kib(trial.size_bytes)}"


def _cells(trial: TrialRecord, objectives: Sequence[Objective]) -> dict[str, str]:
    """Return a row of the table by column; MLflow leaves no room between columns by itself."""
    size = "?" if trial.size_bytes is None else f"{trial.size_bytes / 1024:.1f}"
    cells = {
        "trial": f"[{trial.number}](trial:{trial.number})",
        "error %": percent(trial.val_error or 0.0, trial.facts.get("num_validation")),
        "bits": bits_text(trial).removesuffix(" bit"),
        "size KiB": size,
    }
    if "bit_operations" in objectives:
        cells["bit ops"] = count_text(trial.facts.get("bit_operations"))
    cells |= {
        "quantizer": quantizer_text(trial.config),
        "ratio schedule": schedule_text(trial.config),
    }
    escaped = {name: cell.replace("|", r"\|") for name, cell in cells.items()}
    return {f"{ROOM}{name}{ROOM}": f"{ROOM}{cell}{ROOM}" for name, cell in escaped.items()}

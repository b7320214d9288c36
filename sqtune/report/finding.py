"""The first thing on the page: what was found, and how sure it is, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqtune.report.facts import Comparison, Report
from sqtune.search.compare_table import budget_text, verdicts
from sqtune.search.confirm import Confirmed
from sqtune.search.fit import nearest
from sqtune.search.pareto import candidates, standard_error
from sqtune.search.records import TrialRecord
from sqtune.search.tables import bits_text, counts_text, kib, percent, quantizer_text

GOING_ON = ("running", "interrupted", "paused")
NOISE = 2.0  # standard errors of a difference, within which nobody leads


def finding(report: Report) -> str:
    """Return the sentence."""
    if report.comparison is not None:
        return _compared(report.comparison)
    if report.winner is None:
        return _nothing(report)
    if report.confirms is not None:
        return (
            f"These trainings with new seeds confirm the study “{report.confirms}” "
            f"({counts_text(report.trials)}); its own report has their means."
        )
    if not report.is_search:
        return f"This comparison has not come to its end yet: {counts_text(report.trials)}."
    return _found(report, report.winner)


def _found(report: Report, winner: TrialRecord) -> str:
    assert winner.val_error is not None
    images = winner.facts.get("num_validation")
    of = f" of {images:,} images" if images else ""
    so_far = "So far the" if any(trial.state in GOING_ON for trial in report.trials) else "The"
    count = len(report.ranked)
    which = f"best of {count:,} finished networks" if count > 1 else "only finished network"
    error = f"{percent(winner.val_error, images)} % validation error{of}"
    what = f"{quantizer_text(winner.config)}, {bits_text(winner)}, {kib(winner.size_bytes)}"
    text = f"{so_far} {which} is trial {winner.number} ({what}) with {error}"
    sure = _confirmed(report.confirmed) or _once(report, winner)
    text += f"; {sure}."
    if winner.test_error is not None:
        text += f" Its test error, measured once, is {percent(winner.test_error)} %."
    return text


def _confirmed(confirmed: Sequence[Confirmed]) -> str:
    """Return what new seeds say of the winner; nothing without them."""
    measured = [each for each in confirmed if each.errors]
    if not measured:
        return ""
    first, *others = sorted(measured, key=lambda each: each.mean)
    text = f"over {len(first.errors)} new seed{'s'[: len(first.errors) > 1]} its mean is "
    text += f"{100 * first.mean:.2f}"
    if first.standard_error is None:
        return f"{text} %, too few to say how sure that is"
    text += f" ± {100 * first.standard_error:.2f} %"
    if not others:
        return text
    second = others[0]
    if second.standard_error is None:
        return f"{text}, the lowest of {len(measured)} that were confirmed"
    noise = NOISE * (first.standard_error**2 + second.standard_error**2) ** 0.5
    if second.mean - first.mean < noise:
        return f"{text}, and trial {second.trial} is within the noise of it"
    return f"{text}, and no other that was confirmed comes within the noise of it"


def _once(report: Report, winner: TrialRecord) -> str:
    """Return how many others cannot be told from the winner, which was measured once."""
    near = len(within_noise(winner, candidates(report.ranked)))
    if len(report.ranked) == 1:
        return "it was trained with one seed, so how much of that is luck is not known"
    if near:
        return (
            f"{near:,} other{'s lie' if near > 1 else ' lies'} within the noise of it, and each "
            "was trained with one seed: which is best is not settled (sqtune confirm settles it)"
        )
    return (
        "no other lies within the noise of its validation images, but each was trained with one "
        "seed (sqtune confirm tries others)"
    )


def within_noise(winner: TrialRecord, others: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials whose error differs from the winner's by less than two standard errors."""

    def variance(trial: TrialRecord) -> float:
        images = trial.facts.get("num_validation")
        assert trial.val_error is not None
        return standard_error(trial.val_error, images) ** 2 if images else 0.0

    assert winner.val_error is not None
    return [
        trial
        for trial in others
        if trial is not winner
        and trial.val_error is not None
        and abs(trial.val_error - winner.val_error)
        < NOISE * (variance(trial) + variance(winner)) ** 0.5
    ]


def _nothing(report: Report) -> str:
    """Return why there is no network."""
    trials = report.trials
    if not trials:
        return "Nothing is known yet: no trial has begun."
    only_refused = all(trial.state == "refused" for trial in trials)
    near = nearest(trials, report.space.target) if only_refused else None
    if near is not None:
        return (
            f"Nothing was trained: none of {len(trials):,} proposals fits the target. The nearest "
            f"is trial {near.number}: {near.why}"
        )
    if all(trial.state == "failed" for trial in trials):
        reason, count = Counter(map(reason_of, trials)).most_common(1)[0]
        return (
            f"No network was found: {counts_text(trials)}. The most frequent reason ({count:,} "
            f"of {len(trials):,}): {reason}"
        )
    return f"No trial has finished yet: {counts_text(trials)}."


def reason_of(trial: TrialRecord) -> str:
    """Return the last line of why a trial failed."""
    lines = (trial.failure or "no reason is known").strip().splitlines()
    return lines[-1] if lines else "no reason is known"


def _compared(comparison: Comparison) -> str:
    """Return who has the lowest mean test error, and how many of the leads are ones."""
    rows, num_epochs = comparison.rows, comparison.num_epochs
    cells = [
        (cell.mean, row.method.name, budget, cell)
        for row in rows
        for budget, cell in row.cells.items()
        if cell.mean is not None
    ]
    if not cells:
        return "Nothing has been measured yet: no training of this comparison has finished."
    mean, name, budget, cell = min(cells, key=lambda each: (each[0], each[1]))
    spread = "" if cell.deviation is None else f" ± {100 * cell.deviation:.2f}"
    seeds = len(cell.test_errors)
    text = (
        f"The lowest mean test error has {name} ({budget_text(budget, num_epochs)}): "
        f"{100 * mean:.2f}{spread} % over {seeds} seed{'s'[: seeds > 1]}"
    )
    judged = Counter(_verdict(line) for line in verdicts(rows, num_epochs))
    if not judged:
        return f"{text}."
    counted = ", ".join(f"{count} {word}" for word, count in judged.items())
    return f"{text}; of the leads that were looked for: {counted}."


def _verdict(line: str) -> str:
    """Return the word at the end of a verdict."""
    known = ("ahead", "behind", "within the noise", "too few seeds to tell", "no result")
    return next((word for word in known if line.endswith(word)), "of one seed")

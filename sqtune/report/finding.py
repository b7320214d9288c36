"""The first thing on the page: what was found, and how sure it is, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqtune.quant import Float
from sqtune.report.facts import Comparison, Report
from sqtune.search.compare_table import budget_text, verdicts
from sqtune.search.confirmed import Confirmed, lead, mean_text
from sqtune.search.fit import nearest
from sqtune.search.pareto import candidates, standard_error
from sqtune.search.records import TrialRecord, reason_of
from sqtune.search.tables import bits_text, counts_text, is_at_once, quantizer_text
from sqtune.search.wording import kib, measured, percent, plural

GOING_ON = ("running", "interrupted", "paused")
NOISE = 2.0  # standard errors of a difference over the images, within which nobody leads


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
    error = f"{percent(winner.val_error, images)} %"
    what = f"{quantizer_text(winner.config)}, {bits_text(winner)}, {kib(winner.size_bytes)}"
    name = f"trial {winner.number} ({what})"
    so_far = any(trial.state in GOING_ON for trial in report.trials)
    if report.mean is not None:
        text = f"{_which_confirmed(report)} {name}: {_mean(report.confirmed)}. The search "
        text += f"had measured {error}{of}, once.{_passed_over(report)}"
    else:
        text = f"The {_which(report)} is {name} with {error} validation error{of}; "
        text += f"{_once(report, winner)}.{_longer(report)}"
    text += _without_the_method(report, winner)
    if winner.test_error is not None:
        test_error = measured(winner.test_error, winner.facts.get("num_test"))
        text += f" Its test error, measured once, is {test_error}."
    return f"So far {text[:1].lower()}{text[1:]}" if so_far else text


def _which(report: Report) -> str:
    """Return among how many networks the winner is the best."""
    count = len(candidates(report.ranked))
    kind = "finished" if count == len(report.ranked) else "finished quantized"
    return f"best of {count:,} {kind} networks" if count > 1 else f"only {kind} network"


def _which_confirmed(report: Report, trained: str = "") -> str:
    """Return of how many confirmed networks the best is told, and how they were trained."""
    count = len(report.confirmed)
    if count == 1:
        return f"The only network that was confirmed{trained} is"
    return f"Of the {count:,} networks that were confirmed{trained} the best is"


def _without_the_method(report: Report, winner: TrialRecord) -> str:
    """Return that the winner is a plain baseline, and the best that is none; nothing otherwise."""
    if winner.weight_bits == Float.bits or not is_at_once(winner.config):
        return ""
    text = " It was trained without Stochastic Quantization"
    drawn = [each for each in candidates(report.ranked) if not is_at_once(each.config)]
    if not drawn:
        return f"{text}."
    first = drawn[0]
    assert first.val_error is not None
    error = percent(first.val_error, first.facts.get("num_validation"))
    return f"{text}; the best with it: trial {first.number}, {error} %."


def _longer(report: Report) -> str:
    """Return what new seeds say of networks trained for another budget; nothing without them."""
    if not report.confirmed:
        return ""
    [first] = [trial for trial in report.trials if trial.number == report.confirmed[0].trial]
    trained = f", trained for {report.confirmed_epochs:,} epochs instead of "
    which = _which_confirmed(report, f"{trained}{first.config.num_epochs:,},")
    return f" {which} trial {first.number}: {_mean(report.confirmed)}."


def _mean(confirmed: Sequence[Confirmed]) -> str:
    """Return what new seeds say of the winner."""
    first = confirmed[0]
    text = f"over {plural(len(first.errors), 'new seed')} its mean validation error is "
    return "; ".join(filter(None, (text + mean_text(first), lead(confirmed))))


def _passed_over(report: Report) -> str:
    """Return how many would be confirmed now, such as later ones; nothing without them."""
    told = {each.trial for each in report.confirmed}
    lowest = min(each.first_error for each in report.confirmed)
    count = sum(
        trial.number not in told and trial.val_error is not None and trial.val_error < lowest
        for trial in candidates(report.ranked)
    )
    if not count:
        return ""
    which = f"{plural(count, 'network')} that {'was' if count == 1 else 'were'} not confirmed"
    return (
        f" {which} {'has' if count == 1 else 'have'} a lower error than the search had measured "
        f"of {'these' if len(told) > 1 else 'it'}."
    )


def _once(report: Report, winner: TrialRecord) -> str:
    """Return how many others cannot be told from the winner, which was measured once."""
    others = candidates(report.ranked)
    near = len(within_noise(winner, others))
    if len(others) == 1:
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
    """Return the trials whose error differs from the winner's by at most two standard errors."""

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
        <= NOISE * (variance(trial) + variance(winner)) ** 0.5
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
        reason, count = Counter(reason_of(trial.failure) for trial in trials).most_common(1)[0]
        return (
            f"No network was found: {counts_text(trials)}. The most frequent reason ({count:,} "
            f"of {len(trials):,}): {reason}"
        )
    return f"No trial has finished yet: {counts_text(trials)}."


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

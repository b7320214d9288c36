"""Which network a study hands over: one answer for every command, page and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqtune.search import pareto
from sqtune.search.confirm import best_by_mean
from sqtune.search.confirmed import Confirmed, confirmations, over_seeds
from sqtune.search.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Choice:
    """The network that a study hands over.

    Attributes:
        trial: Of the study.
        confirmed: What new seeds gave of it, trained as in the study; None where none did.
        instead: The lowest mean of those that were confirmed so, where this one was not.
    """

    trial: TrialRecord
    confirmed: Confirmed | None = None
    instead: Confirmed | None = None

    @property
    def grounds(self) -> str:
        """What it rests on, in words; nothing where no network of the study was confirmed."""
        if self.confirmed is not None:
            return f"confirmed: {over_seeds(self.confirmed)}"
        if self.instead is not None:
            return f"by one seed; confirmed is trial {self.instead.trial}"
        return ""


def choose(
    study: str,
    attrs: Mapping[str, Any],
    trials: Sequence[TrialRecord],
    max_size: int | None = None,
    max_error: float | None = None,
    *,
    knee: bool = False,
) -> Choice | None:
    """Return the network that a study hands over; None where nothing fits or has finished.

    It is the lowest mean of what was confirmed as the study trains and fits; where nothing did, the
    lowest error. Of a confirmation it is the lowest training of the lowest mean.

    Args:
        study: Its name.
        attrs: Its attributes.
        trials: All of them.
        max_size: The most bytes it may take.
        max_error: The largest validation error (0..1) it may have, the mean where it was confirmed;
            then the smallest is chosen.
        knee: Whether to take the one at the knee of error against size, confirmed or not.
    """
    results, epochs = told(study, attrs, trials)
    confirmed = {each.trial: each for each in results} if epochs is None else {}
    by_number = {trial.number: trial for trial in trials}
    within = [
        trial
        for trial in trials
        if max_size is None or (trial.size_bytes is not None and trial.size_bytes <= max_size)
    ]
    if knee:
        found = pareto.knee(trials)
    elif max_error is not None:
        means = {number: each.mean for number, each in confirmed.items()}
        errors = [(trial, means.get(trial.number, trial.val_error)) for trial in within]
        kept = [trial for trial, error in errors if error is not None and error <= max_error]
        found = pareto.best(kept, max_error=1.0)
    elif attrs.get("confirms") is not None:
        found = best_by_mean(within)
    else:
        sure = (by_number[number] for number in confirmed)
        found = next((trial for trial in sure if trial in within), None) or pareto.best(within)
    if found is None:
        return None
    own = confirmed.get(found.number)
    first = next(iter(confirmed.values()), None)
    return Choice(found, own, first if own is None else None)


def is_best(
    number: int | None, study: str, attrs: Mapping[str, Any], trials: Sequence[TrialRecord]
) -> bool:
    """Tell whether a trial is what a study hands over, or what that one repeats."""
    choice = choose(study, attrs, trials)
    return choice is not None and number in (choice.trial.number, choice.trial.duplicate_of)


def told(
    study: str, attrs: Mapping[str, Any], trials: Sequence[TrialRecord]
) -> tuple[tuple[Confirmed, ...], int | None]:
    """Return what to tell of all that was confirmed, lowest mean first.

    What was trained as in the study comes before other budgets, and of those the longest.

    Args:
        study: Its name.
        attrs: Its attributes.
        trials: All of them.

    Returns:
        The results that have errors, and the epochs that they were trained for instead of the
        study's; None where as there.
    """
    by_number = {trial.number: trial for trial in trials if trial.val_error is not None}
    found = []
    for confirmation in confirmations(study, attrs):
        results = [each for each in confirmation.results if each.errors]
        results = sorted(
            (each for each in results if each.trial in by_number), key=lambda each: each.mean
        )
        own = {by_number[each.trial].config.num_epochs for each in results}
        epochs = None if own <= {confirmation.num_epochs} else confirmation.num_epochs
        if results:
            found.append((tuple(results), epochs))
    return min(found, key=lambda each: each[1] is not None, default=((), None))

"""What to say of how a search ended, and where there is no network of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqtune.errors import ConfigError

if TYPE_CHECKING:
    from sqtune.search.outcome import Outcome
    from sqtune.search.records import TrialRecord

ENDINGS = {  # why a search ended, in the words of the next step
    "interrupted": "interrupted; the same command goes on from what is stored",
    "stopped": "ended by sqtune stop; the same command goes on",
    "time limit": "the time limit ended the search; the same command goes on",
    "GPU hours": "the search has used its GPU hours (search.max_gpu_hours); with more, the same "
    "command goes on",
    "failures": "too many trials failed for the same reason (search.max_failures); see sqtune logs "
    "TRIAL; the same command goes on",
    "taken over": "another driver has taken the study over, as this one gave no sign of life for "
    "half a minute; it goes on there",
    "target error": "the wanted error is reached (search.target_error)",
}


def nothing_trained(outcome: Outcome) -> ConfigError:
    """Return an error that says why no proposal of a search was trained."""
    from sqtune.search.fit import nearest

    near = nearest(outcome.trials, outcome.space.target)
    if near is None:
        return ConfigError(
            f'no trial of "{outcome.study}" has finished: {outcome.why}; see: sqtune show'
        )
    return ConfigError(
        f"target: none of {len(outcome.trials):,} proposals fits. The nearest is trial "
        f"{near.number}: {near.why} Relax the target or widen the space, with another --name; "
        "sqtune plan says what fits."
    )


def nothing_fits(
    study: str,
    attrs: Mapping[str, Any],
    trials: Sequence[TrialRecord],
    max_size: int | None,
    max_error: float | None,
    words: tuple[str, str] = ("--max-size", "--max-error"),
) -> ConfigError:
    """Return an error that says what limits would have a network.

    Args:
        study: Its name.
        attrs: Its attributes.
        trials: Of the study.
        max_size: The most bytes that were allowed.
        max_error: The largest error (0..1) that was.
        words: What the two are called where they were given.
    """
    from sqtune.search.choice import choose
    from sqtune.search.pareto import best
    from sqtune.search.wording import kib, percent

    top, smallest = choose(study, attrs, trials), best(trials, max_error=1.0)
    if top is None or smallest is None or top.trial.val_error is None:
        return ConfigError(f'no trial of "{study}" has finished yet; see: sqtune show')
    limits, nearest = [], []
    if max_size is not None:
        limits.append(f"{words[0]} {kib(max_size)}")
        nearest.append(f"the smallest, trial {smallest.number}, takes {kib(smallest.size_bytes)}")
    if max_error is not None:
        limits.append(f"{words[1]} {percent(max_error)} %")
        error = top.trial.val_error if top.confirmed is None else top.confirmed.mean
        nearest.append(f"the best, trial {top.trial.number}, has {percent(error)} %")
    return ConfigError(f'{", ".join(limits)}: no network of "{study}" fits; {"; ".join(nearest)}.')

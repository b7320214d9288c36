"""What a proposed configuration takes, and whether that fits the target: known before it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import optuna

from sqtune.config.options import Target
from sqtune.config.trial import TrialConfig
from sqtune.search.records import TrialRecord
from sqtune.search.stored import FACTS

if TYPE_CHECKING:
    from sqtune.deploy.sizes.footprint import Footprint

Measure = Callable[[TrialConfig], "Footprint"]


def store_footprint(
    trial: optuna.Trial, config: TrialConfig, measure: Measure | None, target: Target | None
) -> str | None:
    """Store what a trial's configuration takes, as facts and as constraints for the sampler.

    Args:
        trial: A running trial.
        config: Its configuration.
        measure: Returns what it takes; without it nothing is stored.
        target: What it has to fit into.

    Returns:
        Why it does not fit; None if it does.
    """
    if measure is None:
        return None
    footprint = measure(config)
    if FACTS not in trial.user_attrs:  # there are some where a driver was killed
        trial.set_user_attr(FACTS, asdict(footprint))
    if target is None:
        return None
    from sqtune.deploy.sizes.footprint import excess, refusal

    for name, value in excess(footprint, target).items():
        if name not in trial.constraints:
            trial.set_constraint(name, value)
    return refusal(footprint, target)


def nearest(trials: Iterable[TrialRecord], target: Target | None) -> TrialRecord | None:
    """Return the refused trial that exceeds a target least; None where none was refused by it."""
    from sqtune.deploy.sizes.footprint import Footprint, excess

    def exceeded(trial: TrialRecord) -> float:
        names = (field.name for field in fields(Footprint))
        taken = Footprint(**{name: trial.facts[name] for name in names})
        return max(excess(taken, target).values(), default=0.0)

    refused = [trial for trial in trials if trial.state == "refused" and exceeded(trial) > 0]
    return min(refused, key=exceeded, default=None)

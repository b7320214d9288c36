"""What another study found out, for the sampler alone: its trials are no trials of this study."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState, create_trial

from sqtune.config.parameters import no_value_of
from sqtune.config.space import SearchSpace
from sqtune.search.fit import Measure
from sqtune.search.records import TrialRecord
from sqtune.search.samplers import distribution, stored_value, unstored
from sqtune.search.stored import FROM_STUDY

if TYPE_CHECKING:
    from sqtune.search.view import StudyView


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What was taken over from another study.

    Attributes:
        taken: Numbers of its trials that the sampler sees now.
        left: Why others of its finished trials were left out, by number.
    """

    taken: tuple[int, ...]
    left: dict[int, str]

    def summary(self) -> str:
        """Return in a line what was taken and, for each reason, what was not."""
        reasons = Counter(self.left.values())
        left = "".join(f"; {count} left out: {reason}" for reason, count in reasons.items())
        return f"{len(self.taken)} trials taken over{left}"


def take_over(
    study: optuna.Study, space: SearchSpace, other: StudyView, measure: Measure | None
) -> WarmStart:
    """Add another study's finished trials whose values this space could have, once each.

    Args:
        study: Where they are added, complete and marked.
        space: Its space.
        other: Where they come from; repeated trials add nothing and are passed over.
        measure: Returns what a configuration takes; needed for objectives beside val_error.
    """
    from sqtune.deploy.sizes.footprint import excess

    uuid = other.attrs["uuid"]
    marks = (trial.user_attrs.get(FROM_STUDY) for trial in study.get_trials(deepcopy=False))
    here = {mark["number"] for mark in marks if mark is not None and mark["study"] == uuid}
    taken, left = [], dict[int, str]()
    for trial in other.trials():
        if trial.val_error is None or trial.duplicate_of is not None or trial.number in here:
            continue
        values = dict[str, Any]()
        reason = _fill(space, trial, values)
        facts, footprint = dict(trial.facts), None
        if reason is None and measure is not None:
            footprint = measure(space.config(values))
            facts.update(asdict(footprint))
        lacking = [name for name in space.search.objectives if name not in ("val_error", *facts)]
        if reason is None and lacking:
            reason = f"it has no {lacking[0]}"
        if reason is not None:
            left[trial.number] = reason
            continue
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params={path: stored_value(value) for path, value in values.items()},
                distributions={path: distribution(space.space[path]) for path in values},
                values=[
                    trial.val_error if name == "val_error" else float(facts[name])
                    for name in space.search.objectives
                ],
                constraints=None if footprint is None else excess(footprint, space.target),
                user_attrs={FROM_STUDY: {"study": uuid, "number": trial.number}},
            )
        )
        taken.append(trial.number)
    return WarmStart(tuple(taken), left)


def _fill(space: SearchSpace, trial: TrialRecord, values: dict[str, Any]) -> str | None:
    """Fill in the values that a trial has in a space; return why it has no place in it, or None."""
    for path, parameter in space.active(values):
        if path not in trial.values:
            return f"it has no value of {path}"
        value = unstored(parameter, trial.values[path])
        if no_value_of(parameter, value):
            return f"{path}={trial.values[path]} is not among the values of this space"
        values[path] = value
    unknown = [path for path in trial.values if path not in values]
    return f"{unknown[0]} is not searched here" if unknown else None

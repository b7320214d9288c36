"""How a trial stands in Optuna's storage: states, attributes and what is read from them.

RUNNING: a driver trains it, or it is paused at a rung. WAITING: it was interrupted, or is a point
that nobody asked for yet. COMPLETE: it finished. PRUNED: it was stopped, or refused untrained.
FAIL: it failed. Every epoch's results are an attribute, so that MLflow can be brought up to date
from the study at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sqtune.config.trial import TrialConfig
from sqtune.search.records import State, TrialRecord

EPOCH = "epoch."  # epoch.00001, epoch.00002, ...
CONFIG = "config"  # JSON; a point has none until it is asked for
FACTS = "facts"
RUN_ID = "run_id"
FAILURE = "failure"
PAUSED = "paused"  # the epoch of its rung, null once it goes on
STOPPED = "stopped"  # the epoch of its rung, and why
REFUSED = "refused"  # why
DUPLICATE_OF = "duplicate_of"  # number of the finished trial whose results are its own
POINT = "point"  # canonical JSON of the point it was enqueued for
GRID_INDEX = "grid_index"  # which point of the grid it is
FROM_STUDY = "from_study"  # a finished trial of another study, for the sampler alone


@dataclass(slots=True)
class Running:
    """A trial that has not ended: what its driver is asked at every epoch.

    Attributes:
        trial_id: The storage's.
        config: Its configuration.
        text: The same as JSON.
        epochs: Its epochs' results by attribute.
    """

    trial_id: int
    config: TrialConfig
    text: str
    epochs: dict[str, dict[str, float]]


def epoch_key(epoch: int) -> str:
    """Return the attribute that holds an epoch (from 1).

    >>> epoch_key(12)
    'epoch.00012'
    """
    return f"{EPOCH}{epoch:05d}"


def epochs_of(attrs: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the stored epochs by attribute, in order."""
    return {key: attrs[key] for key in sorted(attrs) if key.startswith(EPOCH)}


def state_of(trial: FrozenTrial) -> State:
    """Return a trial's state in our words."""
    attrs = trial.user_attrs
    match trial.state:
        case TrialState.RUNNING:
            return "running" if attrs.get(PAUSED) is None else "paused"
        case TrialState.WAITING:
            return "interrupted"
        case TrialState.COMPLETE:
            return "finished"
        case TrialState.PRUNED:
            return "refused" if REFUSED in attrs else "stopped"
        case TrialState.FAIL:
            return "failed"


def digest(config: str) -> bytes:
    """Return what tells configurations (as JSON) apart, in 32 bytes."""
    return hashlib.sha256(config.encode()).digest()


def finished_configurations(trials: Iterable[FrozenTrial]) -> dict[bytes, int]:
    """Return which trial was the first to finish with a configuration, by its digest."""
    first: dict[bytes, int] = {}
    for trial in trials:
        attrs = trial.user_attrs
        if trial.state == TrialState.COMPLETE and CONFIG in attrs and DUPLICATE_OF not in attrs:
            first.setdefault(digest(attrs[CONFIG]), trial.number)
    return first


def record_of(trial: FrozenTrial, config: TrialConfig | None = None) -> TrialRecord:
    """Return what is known of a trial, but for the results that a duplicate has from another.

    Args:
        trial: As Optuna has it; it has a configuration.
        config: The configuration, where it has been read already.
    """
    attrs = trial.user_attrs
    state = state_of(trial)
    return TrialRecord(
        number=trial.number,
        state=state,
        values=dict(trial.params),
        config=config or TrialConfig.model_validate_json(attrs[CONFIG]),
        epochs=tuple(epochs_of(attrs).values()),
        facts=attrs.get(FACTS, {}),
        failure=attrs.get(FAILURE) if state == "failed" else None,
        run_id=attrs.get(RUN_ID),
        test_error=None,
        why=_why(attrs, state),
        duplicate_of=attrs.get(DUPLICATE_OF) if state == "finished" else None,
    )


def with_results_of(trial: TrialRecord, twin: TrialRecord) -> TrialRecord:
    """Return a duplicate with its twin's results: the same numbers, none of them trained for it."""
    facts = dict(twin.facts)
    if "ended_at" in facts:
        facts["started_at"] = facts["ended_at"]
    epochs = tuple({**epoch, "restored": 1.0} for epoch in twin.epochs)
    return replace(trial, epochs=epochs, facts=facts)


def _why(attrs: Mapping[str, Any], state: State) -> str | None:
    match state:
        case "refused":
            return str(attrs[REFUSED])
        case "stopped":
            return str(attrs[STOPPED]["why"])
    return None

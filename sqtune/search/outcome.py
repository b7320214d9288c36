"""Where a search keeps things, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqtune.config.space import SearchSpace
from sqtune.search.choice import Choice
from sqtune.search.limits import Ending
from sqtune.search.records import TrialRecord
from sqtune.store import Store


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search came to.

    Attributes:
        study: The study's name.
        space: What was searched.
        ending: Why it ended.
        trials: All trials.
        choice: The network that is handed over; None if no trial finished.
        network: Its folder.
        tracking_problem: Why MLflow does not have everything; None if it has.
        stage_problem: Why a checkpoint could not be stored; None if all could.
        why: More on why it ended, where there is more.
        front_page: Address of the front's runs in MLflow; None where no server has them.
        attrs: The study's attributes.
    """

    study: str
    space: SearchSpace
    ending: Ending
    trials: list[TrialRecord]
    choice: Choice | None
    network: Path | None
    tracking_problem: str | None
    stage_problem: str | None
    why: str | None
    front_page: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> TrialRecord | None:
        """The trial whose network is handed over; None if none finished."""
        return None if self.choice is None else self.choice.trial


@dataclass(frozen=True, slots=True)
class Places:
    """Where a search keeps things, and where it trains.

    Attributes:
        store: The store.
        study_storage: URL of Optuna's storage; None for the store's journal.
        tracking_uri: MLflow's tracking URI; None for the store's database.
        address: Of a Ray cluster, "auto" or HOST:PORT; None trains on this machine alone.
        working_dir: Folder that a cluster's workers get a copy of, and import from.
        offline: Whether MLflow's server need not answer.
    """

    store: Store
    study_storage: str | None = None
    tracking_uri: str | None = None
    address: str | None = None
    working_dir: Path | None = None
    offline: bool = False

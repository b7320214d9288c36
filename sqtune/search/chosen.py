"""A finished trial that was chosen, and its network in the store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqtune.errors import ExportError, StudyError
from sqtune.search.records import TrialRecord
from sqtune.store import Store

if TYPE_CHECKING:
    from sqtune.deploy.manifest import Source


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is exported.

    Attributes:
        folder: The trained network.
        source: Where it comes from.
    """

    folder: Path
    source: Source


def chosen_network(
    places: Store, study: str, trials: Sequence[TrialRecord], trial: TrialRecord
) -> Chosen:
    """Return a finished trial's network, here; of one that repeats another, that one's.

    Args:
        places: The store.
        study: The study's name.
        trials: All its trials.
        trial: The one that was chosen.
    """
    number = trial.number if trial.duplicate_of is None else trial.duplicate_of
    original = next(each for each in trials if each.number == number)
    folder = places.network(study, number)
    if places.url is not None:
        from sqtune.search.prepare import prepared

        places.fetch(folder)
        prepared(original.config, places)
    return Chosen(
        folder,
        {"study": study, "trial": number, "run_id": original.run_id, "network": str(folder)},
    )


def asked_for(
    study: str, trials: Sequence[TrialRecord], number: int | None, run_id: str | None = None
) -> TrialRecord:
    """Return the trial of a number or an MLflow run; it has to be finished.

    Raises:
        ExportError: It is not.
        StudyError: There is none.
    """
    for trial in trials:
        if trial.number != number and (run_id is None or trial.run_id != run_id):
            continue
        if trial.val_error is None:
            raise ExportError(
                f'trial {trial.number} of "{study}" is {trial.state}: only a finished trial has a '
                f"network to export{'' if trial.ended else ' (let the search go on)'}; see: "
                f"sqtune show {shlex.quote(study)}"
            )
        return trial
    what = f"trial {number}" if run_id is None else f"MLflow run {run_id}"
    raise StudyError(
        f'there is no {what} in "{study}"; see: sqtune show {shlex.quote(study)} --json'
    )

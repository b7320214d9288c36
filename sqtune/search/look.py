"""Looking at a study without driving it."""

from __future__ import annotations

from dataclasses import replace

from sqtune.errors import StudyError
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store


def load_study(
    store: str, study_storage: str | None, name: str | None
) -> tuple[Study, list[TrialRecord]]:
    """Load a study and its trials; what nobody trains any more is called interrupted."""
    places = Store.at(store)
    if study_storage is None and not places.journal.exists():
        raise StudyError(
            f"there is no study in {places.root}. Start one: "
            "sqtune search --space search_spaces/resnet.yaml, or give --store another folder."
        )
    study = Study.load(open_storage(places, study_storage), name)
    trials = study.trials()
    if not places.is_driven(study.name):
        trials = [
            replace(trial, state="interrupted") if trial.state == "running" else trial
            for trial in trials
        ]
    return study, trials

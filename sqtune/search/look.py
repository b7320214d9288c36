"""Looking at a study without driving it."""

from __future__ import annotations

from dataclasses import replace

from sqtune.errors import StudyError
from sqtune.search import lease
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_named, open_storage
from sqtune.search.study import Study
from sqtune.shipped import BEGIN
from sqtune.store import Store


def is_driven(store: str, study_storage: str | None, study: str) -> bool:
    """Tell whether a process drives a study now."""
    places = Store.at(store)
    if study_storage is None:
        return places.is_driven(study)
    engine = open_named(study_storage).engine
    try:
        return lease.seems_driven(engine, study)
    finally:
        engine.dispose()


def ask_to_stop(store: str, study_storage: str | None, study: str) -> None:
    """Ask the driver of a study to end the search after the running epochs."""
    places = Store.at(store)
    if study_storage is None:
        places.request_stop(study)
    else:
        engine = open_named(study_storage).engine
        lease.request_stop(engine, study)
        engine.dispose()


def load_study(
    store: str, study_storage: str | None, name: str | None
) -> tuple[Study, list[TrialRecord]]:
    """Load a study and its trials; what nobody trains any more is called interrupted."""
    places = Store.at(store)
    if study_storage is None and not places.journal.exists():
        raise StudyError(
            f"there is no study in {places.place}. Start one: sqtune search --space FILE (to begin "
            f"with, {BEGIN} writes FILE), or give --store another folder."
        )
    study = Study.load(open_storage(places, study_storage), name)
    return study, trials_now(study, store, study_storage)


def trials_now(study: Study, store: str, study_storage: str | None) -> list[TrialRecord]:
    """Return a study's trials; what nobody trains any more is called interrupted."""
    trials = study.trials()
    if is_driven(store, study_storage, study.name):
        return trials
    return [
        replace(trial, state="interrupted") if trial.state == "running" else trial
        for trial in trials
    ]

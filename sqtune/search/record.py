"""What MLflow is told of a study, and the hand-over of the network that was chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqtune.errors import SqtuneError
from sqtune.search.choice import Choice
from sqtune.search.described import description
from sqtune.search.outcome import Places
from sqtune.search.pareto import compared, front
from sqtune.search.prepare import prepared
from sqtune.search.records import TrialRecord
from sqtune.search.study import Study
from sqtune.search.tables import trial_line
from sqtune.store import Store
from sqtune.tracking import NOTE_TAG, Tracker
from sqtune.tracking.page import PAGE

Page = Callable[[Study, Sequence[TrialRecord], Store], str]
BOOKKEEPING = ("seconds", "restored")  # of an epoch, for the study alone


def record_study(study: Study, space_text: str, tracker: Tracker, store: Store) -> None:
    """Open the study's MLflow run and write what earlier drivers did not get to write."""
    space = study.space
    facts = {f"sqtune.{key}": value for key, value in study.attrs["provenance"].items()}
    tracker.start_study(
        study.attrs["uuid"],
        tags={"sqtune.study": study.name, "sqtune.space_hash": space.hash(), **facts},
        params=space.search.model_dump(mode="json"),
        texts={
            "space.yaml": space_text,
            "space.json": json.dumps(space.model_dump(mode="json", by_alias=True), indent=1),
        },
        searched=[
            f"{path}.name" if isinstance(parameter.samples()[0], dict) else path
            for path, parameter in space.space.items()
        ],
    )
    for trial in study.trials():
        if trial.state in ("finished", "failed", "stopped") and trial.counts:
            record_trial(trial, tracker, store, study.name)


def record_trial(trial: TrialRecord, tracker: Tracker, store: Store, study: str) -> None:
    """Write whatever MLflow lacks of a trial that has ended."""
    tracker.record_ended_trial(
        trial.number,
        trial.config.flat(),
        [{"epoch": epoch, **figures(each)} for epoch, each in enumerate(trial.epochs, 1)],
        **recorded_end(trial, store, study),
    )


def record_run_ids(study: Study, tracker: Tracker) -> None:
    """Store the MLflow runs that have been opened since, by trial."""
    while not tracker.new_run_ids.empty():
        study.set_run_id(*tracker.new_run_ids.get())


def figures(epoch: Mapping[str, float]) -> dict[str, float]:
    """Return what MLflow gets of an epoch."""
    return {key: value for key, value in epoch.items() if key not in BOOKKEEPING}


def recorded_end(trial: TrialRecord, store: Store, study: str) -> dict[str, Any]:
    """Return how a trial's MLflow run ends: status, metrics, tags and files."""
    from sqtune.train.checkpoint import CODES
    from sqtune.train.history import LAYERS

    known = {"size_bytes": trial.size_bytes, "bits": trial.weight_bits, "seconds": trial.seconds}
    metrics = {key: float(value) for key, value in known.items() if value is not None}
    note = {NOTE_TAG: " ".join(trial_line(trial).split())[:5000]}
    if trial.state == "stopped":
        tags = {"sqtune.state": "stopped", **note}
        return {"status": "KILLED", "metrics": metrics, "tags": tags}
    if trial.val_error is None:
        tags = {"sqtune.failure": (trial.failure or "")[:5000], **note}
        return {"status": "FAILED", "tags": tags}
    folder = store.network(study, trial.number)
    files = (folder / CODES, folder / LAYERS)  # a network of long ago has but the first
    return {
        "status": "FINISHED",
        "metrics": metrics,
        "tags": {"sqtune.node": str(trial.facts["node"]), **note},
        "files": [file for file in files if store.url is not None or file.exists()],
    }


def hand_over(study: Study, top: TrialRecord, tracker: Tracker, store: Store) -> None:
    """Measure the chosen network on the test split, once, and log it to its run."""
    from sqtune.train.checkpoint import ABOUT, WEIGHTS

    folder = store.network(study.name, top.number)
    store.fetch(folder)
    test_error = top.test_error
    if test_error is None:
        test_error = measure_test_error(study, top, store)
    tracker.choose(
        top.number,
        [folder / WEIGHTS, folder / ABOUT],
        {"sqtune.test_error": f"{test_error:.6f}"},
    )


def describe(
    study: Study, trials: Sequence[TrialRecord], choice: Choice | None, tracker: Tracker
) -> None:
    """Mark the front, and put on the study's pages what it came to."""
    objectives = compared(study.space.search.objectives)
    on_front = front(trials, objectives)
    tracker.tag_front([trial.number for trial in on_front])
    tracker.describe(description(study.name, trials, choice, on_front, objectives))


def record_choice(study: Study, choice: Choice, places: Places) -> str | None:
    """Hand over what a study chooses since it ended, where it is recorded already.

    Returns:
        Why MLflow does not have it; None if it has.
    """
    store, uri = places.store, places.tracking_uri
    artifacts = store.artifacts if uri is None else None
    tracker = Tracker(
        *(uri or store.tracking_uri, artifacts, study.name, store.root, store.fetch),
        recorded=study.attrs["uuid"],
    )
    try:
        hand_over(study, choice.trial, tracker, store)
        trials = study.trials()
        now = replace(choice, trial=study.trial(choice.trial.number))
        describe(study, trials, now, tracker)
    except (
        SqtuneError
    ) as error:  # its network is gone, say; the confirmation is stored all the same
        return str(error)
    finally:
        tracker.close()
    return tracker.error


def record_page(
    page: Page,
    study: Study,
    trials: Sequence[TrialRecord],
    tracker: Tracker,
    store: Store,
    say: Callable[[str], object],
) -> None:
    """Log a study's page to its run; what keeps it from being made is said and ends nothing."""
    try:
        text = page(study, trials, store)
    except Exception as error:  # a picture of the results must not cost the results
        say(f"no page for MLflow ({type(error).__name__}: {error}); see: sqtune report")
    else:
        tracker.log_texts({PAGE: text})


def measure_test_error(study: Study, trial: TrialRecord, store: Store) -> float:
    """Measure and store a finished trial's errors on the test split; return top-1 (0..1)."""
    from sqtune.data.split import open_prepared
    from sqtune.train.loop import saved_errors

    folder = store.network(study.name, trial.number)
    store.fetch(folder)
    splits = open_prepared(prepared(trial.config, store))
    test_error, top5_error = saved_errors(folder, splits, "test")
    study.set_test_error(trial.number, test_error, len(splits.test), top5_error)
    return test_error

"""Studies in a temporary store, driven without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqtune.config import load_space
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.deploy.sizes.footprint import Footprint, footprint
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store


def space_of(folder: Path, text: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return load_space(path)


def new_store(root: Path) -> Store:
    store = Store.at(root)
    store.create()
    return store


def on_digits(config: TrialConfig) -> Footprint:
    return footprint(config, in_channels=1, num_classes=10, image_size=(8, 8))


def opened(store: Store, space: SearchSpace, **options: Any) -> Study:
    """Open a study as a new driver does."""
    return Study.create_or_continue(open_storage(store, None, mend=True), space, {}, **options)


def asked(study: Study) -> TrialRecord:
    """Ask for a trial that there has to be."""
    trial = study.ask()
    assert trial is not None, study.exhausted
    return trial


def finish(study: Study, trial: TrialRecord, val_error: float = 0.5, epochs: int = 2) -> None:
    for epoch in range(1, epochs + 1):
        study.report(trial.number, epoch, {"train_loss": 2.0, "val_error": val_error})
    study.finish(trial.number, val_error, {"num_validation": 449})

"""Data for a search: read and checked before anything is written, prepared once for all workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqtune.config.corners import corner_points
from sqtune.config.space import SearchSpace
from sqtune.search.records import TrialRecord
from sqtune.store import Store


def prepare_data(space: SearchSpace, store: Store) -> dict[Path, Any]:
    """Read the data sets of a space that the store does not have yet; check that networks fit."""
    from sqtune.data.split import open_prepared, prepare, prepared_path
    from sqtune.networks import check_fits

    read: dict[Path, Any] = {}
    fitting: set[Any] = set()
    for config in {space.config(values) for values in corner_points(space)}:
        path = prepared_path(config.data, store.data)
        if path not in read and not path.exists():
            read[path] = prepare(config.data)
        splits = read[path] if path in read else open_prepared(path)
        pair = (config.network, splits.num_channels, len(splits.classes), splits.image_size)
        if pair not in fitting:
            check_fits(*pair)
            fitting.add(pair)
    return read


def prepared(trial: TrialRecord, store: Store) -> Path:
    """Return a trial's prepared data; makes it where a searched value asks for another split."""
    from sqtune.data.split import prepare, prepared_path

    path = prepared_path(trial.config.data, store.data)
    if not path.exists():
        prepare(trial.config.data, store.data)
    return path

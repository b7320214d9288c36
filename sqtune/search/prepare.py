"""Data for a search: read and checked before anything is written, prepared once for all workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqtune.config.corners import corner_points
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.data import Data
from sqtune.store import Store

if TYPE_CHECKING:
    from sqtune.data.split import Splits
    from sqtune.deploy.sizes.footprint import Footprint
    from sqtune.train.stage_store import StageStore


def prepare_data(space: SearchSpace, store: Store) -> dict[Path, Any]:
    """Read the data sets of a space that the store does not have yet.

    Also checks, before anything is written, that networks fit, that rules act on those of
    factories, and that weights to start from and teachers can be read and fit.
    """
    from sqtune.data.prepare import prepare
    from sqtune.data.split import open_prepared
    from sqtune.networks import Factory, check_fits
    from sqtune.train.loop import check_start

    read: dict[Path, Any] = {}
    fitting: set[Any] = set()
    configs = {space.config(values) for values in corner_points(space)}
    paths = _paths(configs, store)
    for config in configs:
        path = paths[config.data]
        if path not in read and not store.fetch(path):
            read[path] = prepare(config.data)
        splits = read[path] if path in read else open_prepared(path)
        pair = (config.network, splits.num_channels, len(splits.classes), splits.image_size)
        if pair not in fitting:
            check_fits(*pair)
            fitting.add(pair)
        ruled = (pair, config.quantizer, config.rules)
        if isinstance(config.network, Factory) and config.rules and ruled not in fitting:
            check_start(config, splits)  # only now the layers have names
            fitting.add(ruled)
        files = (pair, config.start, config.distillation.teacher, config.distillation.weight > 0)
        if any(named_files(config)) and files not in fitting:
            check_start(config, splits)
            fitting.add(files)
    return read


def file_hashes(space: SearchSpace, store: Store, read: Mapping[Path, Any]) -> dict[str, str]:
    """Return the sha256 of all that the space's trials start from, learn or are built by.

    That is files or folders, by path, code of others, by the name of a factory, and images, by
    where they are from and how they are split.

    Args:
        space: What is searched.
        store: Where its data are.
        read: What `prepare_data` returned.
    """
    from sqtune.data.prepare import stored_spec
    from sqtune.data.split import open_prepared
    from sqtune.networks.by_factory import code_of
    from sqtune.train.start import fingerprint

    configs = {space.config(values) for values in corner_points(space)}
    paths = {path for config in configs for path in named_files(config)}
    codes = filter(None, map(code_of, {config.network for config in configs}))
    images: dict[str, str] = {}
    for data, path in _paths(configs, store).items():
        splits = read[path] if path in read else open_prepared(path)
        source = getattr(data, "root", None) or getattr(data, "factory", None) or data.name
        spec = hashlib.sha256(json.dumps(stored_spec(data)).encode()).hexdigest()[:8]
        images[f"the image set {source} ({spec})"] = _images_sha256(splits)
    return {
        **images,
        **{path: fingerprint(Path(path).expanduser()) for path in sorted(paths)},
        **{code["factory"]: code["source_sha256"] for code in codes},
    }


def _paths(configs: Collection[TrialConfig], store: Store) -> dict[Data, Path]:
    """Return where each data set is prepared; of a folder this looks at every file."""
    from sqtune.data.prepare import prepared_path

    return {data: prepared_path(data, store.data) for data in {each.data for each in configs}}


def _images_sha256(splits: Splits) -> str:
    """Return a sha256 of a data set's images and split; of a streamed one of its files' names.

    A streamed set's own fingerprint has times, which a copy of it on another machine may not share.
    """
    from sqtune.data.stream import StreamedSplit

    first = splits.parts[0]
    if isinstance(first, StreamedSplit):
        return hashlib.sha256(first.names.text.numpy().tobytes()).hexdigest()
    return splits.fingerprint


def named_files(config: TrialConfig) -> list[str]:
    """Return the weights that a configuration reads."""
    start = [] if config.start is None else [config.start.weights]
    teacher = config.distillation.teacher
    return start if teacher is None else [*start, teacher]


def prepared(config: TrialConfig, store: Store) -> Path:
    """Return a trial's prepared data; makes it where a searched value asks for another split."""
    return _prepared(config.data, store)


@cache
def _prepared(data: Data, store: Store) -> Path:
    """Look at the data once in a process: at every file, if they are a folder of images."""
    from sqtune.data.prepare import prepare, prepared_path

    path = prepared_path(data, store.data)
    if not store.fetch(path):
        prepare(data, store.data)
        store.share(path)
    return path


@cache
def data_fingerprint(path: Path) -> str:
    """Return the sha256 of a prepared data set and its split."""
    from sqtune.data.split import open_prepared

    return open_prepared(path).fingerprint


def stage_store(space: SearchSpace, store: Store) -> StageStore:
    """Open the place of a search's stages.

    Raises:
        StoreError: It is none that can be opened.
    """
    from sqtune.train.stage_store import StageStore

    return StageStore(space.stages.url or store.stages, space.stages.max_size)


def footprints(space: SearchSpace, store: Store) -> Callable[[TrialConfig], Footprint]:
    """Return what tells the footprint of a configuration of the space in the target's form."""
    from sqtune.data.split import open_prepared
    from sqtune.deploy.sizes.footprint import footprint

    form = "onnx" if space.target is None else space.target.form
    opened = cache(open_prepared)

    def of(config: TrialConfig) -> Footprint:
        splits = opened(prepared(config, store))
        return footprint(
            config,
            in_channels=splits.num_channels,
            num_classes=len(splits.classes),
            image_size=splits.image_size,
            form=form,
        )

    return of

"""A data set on its way to trainings: read, checked, split, and kept for all of them."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sqtune.data.folders import Files, find_files, folder_fingerprint, read_files, streams, view_of
from sqtune.data.images import Images
from sqtune.data.spec import Cifar, Data, DataFactory, Digits, ImageFolder, ImageNet
from sqtune.data.split import AnySplit, Split, Splits, open_prepared, spread, write_prepared
from sqtune.data.stream import FileNames, StreamedSplit
from sqtune.errors import DataError
from sqtune.files import expanded

FORMAT = 3  # part of a prepared file's key: raise it when its content changes
AUGMENTATION = ("crop_padding", "mirror")  # acts in training, not on the stored images
MEASURED_IMAGES = 10_000  # of a streamed set, for mean and standard deviation
MOST_READERS = 8


def prepare(data: Data, folder: Path | None = None) -> Splits:
    """Read a data set and split it, or open what an earlier call left in `folder`.

    Args:
        data: Which data.
        folder: Where the prepared file is kept; None keeps everything in memory.

    Raises:
        DataError: The data are missing, unreadable or too few to split.
        ConfigError: What makes them cannot be imported or called.
    """
    if folder is None:
        return _read_and_split(data)
    path = prepared_path(data, folder)
    if not path.exists():
        write_prepared(_read_and_split(data), path)
    return open_prepared(path)


def prepared_path(data: Data, folder: Path) -> Path:
    """Return where `prepare` keeps a data set: the name holds a hash of all that makes it."""
    about = stored_spec(data)
    match data:
        case ImageFolder() | ImageNet():
            about["files"] = folder_fingerprint(data)
        case DataFactory():
            from sqtune.factories import source_sha256

            about["source"] = source_sha256(data.factory, "trial.data.factory")
    digest = hashlib.sha256(json.dumps([FORMAT, about]).encode()).hexdigest()
    return folder / f"{data.name}-{digest[:16]}.safetensors"


def stored_spec(data: Data) -> dict[str, Any]:
    """Return the fields of a data set that decide which images are stored, and where."""
    return {key: value for key, value in asdict(data).items() if key not in AUGMENTATION}


def _read_and_split(data: Data) -> Splits:
    train: Images | Files
    test: Images | Files | None = None
    match data:
        case Digits():
            from sqtune.data.digits import load_digits

            train = load_digits()
        case Cifar():
            from sqtune.data.images import load_cifar

            train, test = load_cifar(data)
        case DataFactory():
            from sqtune.data.by_factory import load_by_factory

            train, test = load_by_factory(data)
        case ImageFolder() | ImageNet():
            found, found_test = find_files(data)
            if streams(data, found, found_test):
                train, test = found, found_test
            else:
                assert isinstance(data, ImageFolder)
                train, test = read_files(data, found, found_test)
    test_share = 0.0 if test is not None or isinstance(data, Cifar | ImageNet) else data.test
    ids = _stratified(train, (data.validation, test_share), data.split_seed)
    shares = [train.part(chosen) for chosen in (ids[2], ids[0])]
    shares.append(train.part(ids[1]) if test is None else test)
    if any(len(share) == 0 for share in shares):
        raise DataError(
            f"{data.name}: {len(train)} images are too few for a training, validation and test "
            "split; each needs at least one of every class."
        )
    if len(train.classes) < 2:
        raise DataError(
            f"{data.name}: all images are of one class, {train.classes[0]}. Give two or more."
        )
    parts = _parts(data, shares)
    if isinstance(parts[2], StreamedSplit):
        _read_through(parts[2])
    mean, std = getattr(data, "mean", None), getattr(data, "std", None)
    digest = _fingerprint(shares)
    if mean is None or std is None:
        mean, std = _mean_and_std(parts[0])
    else:
        digest.update(json.dumps([mean, std]).encode())
        if len(mean) != parts[0].image_shape[0]:
            raise DataError(
                f"trial.data.mean has {len(mean)} numbers, the images have "
                f"{parts[0].image_shape[0]} channels. Give one for each."
            )
    return Splits(parts[0], parts[1], parts[2], train.classes, mean, std, digest.hexdigest())


def _parts(data: Data, shares: Sequence[Images | Files]) -> list[AnySplit]:
    """Return train, validation and test as what trainings take."""
    parts: list[AnySplit] = []
    names: list[str] = []
    for share in shares:
        labels = torch.from_numpy(share.labels_N)
        if isinstance(share, Images):
            parts.append(Split(torch.from_numpy(share.pixels_NCHW), labels))
        else:
            names += share.names
    if not names:
        return parts
    assert isinstance(data, ImageFolder | ImageNet)
    root, all_names, first = expanded(data.root).absolute(), FileNames.of(names), 0
    for number, share in enumerate(shares):
        labels = torch.from_numpy(share.labels_N)
        view = view_of(data, training=number == 0)
        parts.append(StreamedSplit(root, all_names, labels, first, view))
        first += len(share)
    return parts


def _fingerprint(shares: Sequence[Images | Files]) -> Any:
    digest = hashlib.sha256()
    for share in shares:
        if isinstance(share, Images):
            digest.update(share.pixels_NCHW.tobytes())
        else:
            digest.update(json.dumps([share.view, share.facts]).encode())
        digest.update(share.labels_N.tobytes())
    return digest


def _mean_and_std(train: AnySplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation, of values in 0..1.

    Of a streamed set that of 10,000 images spread over it.
    """
    if isinstance(train, StreamedSplit):
        few = train.part(spread(len(train), MEASURED_IMAGES))
        batches = few.with_workers(_readers(len(few))).in_order(64, torch.device("cpu"))
        chunks = (images for images, _ in batches)
    else:
        chunks = iter(train.images.split(1000))
    levels, counts = np.arange(256) / 255, np.zeros((train.image_shape[0], 256))
    for chunk in chunks:
        counts += [_histogram(chunk[:, channel]) for channel in range(len(counts))]
    mean, std = [], []
    for count in counts:
        average = float((count * levels).sum() / count.sum())
        variance = float((count * (levels - average) ** 2).sum() / count.sum())
        mean.append(average)
        std.append(max(variance**0.5, 1e-6))  # a channel of one value
    return tuple(mean), tuple(std)


def _read_through(test: StreamedSplit) -> None:
    """Read a streamed test split once: a file that cannot be read shows before, not after, weeks.

    Raises:
        DataError: One cannot, and such files are not to be left out.
    """
    for _ in test.with_workers(_readers(len(test))).in_order(64, torch.device("cpu")):
        pass


def _readers(num_images: int) -> int:
    return min(MOST_READERS, os.cpu_count() or 1) if num_images > 1000 else 0


def _histogram(pixels: Tensor) -> npt.NDArray[np.int64]:
    counted: npt.NDArray[np.int64] = np.bincount(pixels.numpy().ravel(), minlength=256)
    return counted


def _stratified(
    images: Images | Files, shares: tuple[float, float], seed: int
) -> tuple[list[int], list[int], list[int]]:
    """Return indices of validation, test and the rest, each class shared out alike."""
    rng = random.Random(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in range(len(images.classes)):
        ids = np.flatnonzero(images.labels_N == label).tolist()
        rng.shuffle(ids)
        first, second = (round(sum(shares[: k + 1]) * len(ids) + 1e-9) for k in range(2))
        for part, chosen in zip(parts, (ids[:first], ids[first:second], ids[second:]), strict=True):
            part.extend(chosen)
    for part in parts:
        part.sort()
    return parts

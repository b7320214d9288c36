"""Train, validation and test: disjoint, stratified, seeded, stored once and memory-mapped.

A prepared set is one file of uint8 images in the order train, validation, test, so that each split
is a view of it and every process on a machine shares one copy of the pages.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sqtune.data.images import Images, folder_fingerprint, load_cifar, load_image_folder
from sqtune.data.spec import Cifar, Data, Digits, ImageFolder
from sqtune.errors import DataError

FORMAT = 1  # part of a prepared file's key: raise it when its content changes


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set: images (uint8, N x C x H x W) and labels (int64, N)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """Return the split on a device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set ready to train on.

    Attributes:
        train: What the weights are fitted to.
        validation: What ranks trials.
        test: What is measured once, for the chosen network.
        classes: Class names.
        mean: Of the training images, per channel, of values in 0..1.
        std: Likewise.
        fingerprint: sha256 of images, labels and split: which images were where.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def num_channels(self) -> int:
        """Channels of an image."""
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return int(self.train.images.shape[2]), int(self.train.images.shape[3])

    def to(self, device: torch.device) -> Splits:
        """Return all splits on a device; train stays in memory if it needs over half of a GPU's."""
        train = self.train
        if device.type == "cuda" and train.images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
            train = Split(train.images.pin_memory(), train.labels.pin_memory())
        else:
            train = train.to(device)
        return replace(
            self, train=train, validation=self.validation.to(device), test=self.test.to(device)
        )


def prepare(data: Data, folder: Path | None = None) -> Splits:
    """Read a data set and split it, or open what an earlier call left in `folder`.

    Args:
        data: Which data.
        folder: Where the prepared file is kept; None keeps everything in memory.

    Raises:
        DataError: The data are missing, unreadable or too few to split.
    """
    if folder is None:
        return _read_and_split(data)
    path = prepared_path(data, folder)
    if not path.exists():
        write_prepared(_read_and_split(data), path)
    return open_prepared(path)


def prepared_path(data: Data, folder: Path) -> Path:
    """Return where `prepare` keeps a data set: the name holds a hash of all that makes it."""
    about = {key: value for key, value in asdict(data).items() if key not in AUGMENTATION}
    if isinstance(data, ImageFolder):
        about["files"] = folder_fingerprint(data)
    digest = hashlib.sha256(json.dumps([FORMAT, about]).encode()).hexdigest()
    return folder / f"{data.name}-{digest[:16]}.safetensors"


AUGMENTATION = ("crop_padding", "mirror")  # acts in training, not on the stored images


def write_prepared(splits: Splits, path: Path) -> None:
    """Write a data set atomically: no half file is ever read."""
    parts = (splits.train, splits.validation, splits.test)
    tensors = {
        "images": torch.cat([part.images for part in parts]),
        "labels": torch.cat([part.labels for part in parts]),
    }
    metadata = {
        "sizes": json.dumps([len(part) for part in parts]),
        "classes": json.dumps(splits.classes),
        "mean": json.dumps(splits.mean),
        "std": json.dumps(splits.std),
        "fingerprint": splits.fingerprint,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(save(tensors, metadata))
    partial.replace(path)


def open_prepared(path: Path) -> Splits:
    """Open a prepared data set; its images are memory-mapped.

    Raises:
        DataError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
    except SafetensorError as error:
        raise DataError(
            f"{path} is damaged: {error}. Remove it; the data are read anew at the next start."
        ) from error
    sizes = json.loads(metadata["sizes"])
    train, validation, test = map(Split, images.split(sizes), labels.split(sizes))
    classes, mean, std = (tuple(json.loads(metadata[key])) for key in ("classes", "mean", "std"))
    return Splits(train, validation, test, classes, mean, std, metadata["fingerprint"])


def _read_and_split(data: Data) -> Splits:
    test: Images | None
    match data:
        case Digits():
            from sqtune.data.digits import load_digits

            images, test, test_share = load_digits(), None, data.test
        case Cifar():
            images, test = load_cifar(data)
            test_share = 0.0
        case ImageFolder():
            images, test = load_image_folder(data)
            test_share = data.test if test is None else 0.0
    shares = (data.validation, test_share)
    validation_ids, test_ids, train_ids = _stratified(images, shares, data.split_seed)
    parts = [_take(images, ids) for ids in (train_ids, validation_ids)]
    if test is None:
        parts.append(_take(images, test_ids))
    else:
        parts.append(Split(torch.from_numpy(test.pixels_NCHW), torch.from_numpy(test.labels_N)))
    if any(len(part) == 0 for part in parts):
        raise DataError(
            f"{data.name}: {len(images.labels_N)} images are too few for a training, validation "
            "and test split; each needs at least one of every class."
        )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.images.numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    mean, std = _mean_and_std(parts[0].images)
    return Splits(parts[0], parts[1], parts[2], images.classes, mean, std, digest.hexdigest())


def _mean_and_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation, of values in 0..1."""
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256)
        for chunk in images[:, channel].split(1000):
            counts += np.bincount(chunk.numpy().ravel(), minlength=256)
        average = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - average) ** 2).sum() / counts.sum())
        mean.append(average)
        std.append(max(variance**0.5, 1e-6))  # a channel of one value
    return tuple(mean), tuple(std)


def _stratified(
    images: Images, shares: tuple[float, float], seed: int
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


def _take(images: Images, ids: list[int]) -> Split:
    return Split(torch.from_numpy(images.pixels_NCHW[ids]), torch.from_numpy(images.labels_N[ids]))

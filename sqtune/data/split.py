"""Train, validation and test: disjoint, stratified, seeded, stored once and memory-mapped.

A prepared set is one file: uint8 images in the order train, validation, test, so that each split is
a view of it and every process on a machine shares one copy of the pages. Of a set that is streamed
it has the names of the files instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sqtune.data.stream import FileNames, StreamedSplit, View
from sqtune.errors import DataError


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set, in memory: images (uint8, N x C x H x W) and labels (int64, N)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return self.images.nbytes

    def to(self, device: torch.device) -> Split:
        """Return the split on a device."""
        return Split(self.images.to(device), self.labels.to(device))

    def with_workers(self, num_workers: int) -> Split:
        """Return the split itself: nothing is left to read."""
        del num_workers
        return self

    def part(self, ids: Tensor) -> Split:
        """Return the split of these images alone."""
        return Split(self.images[ids], self.labels[ids])

    def take(self, ids: Tensor) -> Tensor:
        """Return these images, uint8, where the split is."""
        return self.images[ids]

    def fetch(
        self,
        batches: Sequence[Tensor],
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of images (uint8) and labels on a device.

        Args:
            batches: Which images each has; on the split's device.
            device: Where they come out.
            generator: Nothing is random here.
        """
        del generator
        for ids in batches:
            yield _take(self.images, ids, device), _take(self.labels, ids, device)

    def in_order(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images and labels in batches on a device."""
        for images, labels in zip(
            self.images.split(batch_size), self.labels.split(batch_size), strict=True
        ):
            yield images.to(device), labels.to(device)


AnySplit = Split | StreamedSplit


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set ready to train on.

    Attributes:
        train: What the weights are fitted to.
        validation: What ranks trials.
        test: What is measured once, for the chosen network.
        classes: Class names.
        mean: Per channel, of values in 0..1: of the training images, or as was given.
        std: Likewise.
        fingerprint: sha256 of images, labels and split: which images were where.
    """

    train: AnySplit
    validation: AnySplit
    test: AnySplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def num_channels(self) -> int:
        """Channels of an image."""
        return self.train.image_shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image."""
        _, height, width = self.train.image_shape
        return height, width

    @property
    def parts(self) -> tuple[AnySplit, AnySplit, AnySplit]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    def to(self, device: torch.device) -> Splits:
        """Return all splits on a device; train stays in memory if it needs over half of a GPU's."""
        train, free = self.train, 0
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
        if isinstance(train, Split) and device.type == "cuda" and train.nbytes > free // 2:
            train = Split(train.images.pin_memory(), train.labels.pin_memory())
        else:
            train = train.to(device)
        return replace(
            self, train=train, validation=self.validation.to(device), test=self.test.to(device)
        )

    def with_workers(self, num_workers: int) -> Splits:
        """Return the splits, those that are streamed read by so many processes each."""
        train, validation, test = (part.with_workers(num_workers) for part in self.parts)
        return replace(self, train=train, validation=validation, test=test)

    def sampled(self, most_bytes: int) -> MemorySplits:
        """Return the splits in memory; of what is streamed as many images as take so many bytes.

        They are spread evenly over each split.
        """
        train, validation, test = (_sampled(part, most_bytes) for part in self.parts)
        return MemorySplits(
            train, validation, test, self.classes, self.mean, self.std, self.fingerprint
        )


@dataclass(frozen=True, slots=True)
class MemorySplits(Splits):
    """A data set whose splits are all in memory."""

    train: Split
    validation: Split
    test: Split


def spread(num_images: int, most: int) -> Tensor:
    """Return at most so many of the places 0..num_images - 1, spread evenly.

    >>> spread(10, 3).tolist(), spread(2, 3).tolist()
    ([0, 4, 9], [0, 1])
    """
    if most >= num_images:
        return torch.arange(num_images)
    return torch.linspace(0, num_images - 1, most, dtype=torch.float64).long()


def _sampled(part: AnySplit, most_bytes: int) -> Split:
    if isinstance(part, Split):
        return part
    most = max(1, most_bytes * len(part) // part.nbytes)
    batches = list(part.part(spread(len(part), most)).in_order(64, torch.device("cpu")))
    images, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    return Split(images, labels)


def _take(tensor: Tensor, ids: Tensor, device: torch.device) -> Tensor:
    """Return tensor[ids] on a device; what comes from memory passes through pinned memory."""
    if tensor.device.type == device.type:
        return tensor.index_select(0, ids)
    rows = torch.empty((len(ids), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=True)
    torch.index_select(tensor, 0, ids, out=rows)
    return rows.to(device, non_blocking=True)


def write_prepared(splits: Splits, path: Path) -> None:
    """Write a data set atomically: no half file is ever read.

    Raises:
        DataError: It cannot be written.
    """
    metadata = {
        "sizes": json.dumps([len(part) for part in splits.parts]),
        "classes": json.dumps(splits.classes),
        "mean": json.dumps(splits.mean),
        "std": json.dumps(splits.std),
        "fingerprint": splits.fingerprint,
    }
    tensors = {"labels": torch.cat([part.labels for part in splits.parts])}
    streamed = [part for part in splits.parts if isinstance(part, StreamedSplit)]
    if streamed:
        tensors["text"], tensors["ends"] = streamed[0].names.text, streamed[0].names.ends
        metadata["root"] = str(streamed[0].root)
        metadata["views"] = json.dumps([asdict(part.view) for part in streamed])
    else:
        tensors["images"] = torch.cat([part.images for part in _in_memory(splits)])
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(save(tensors, metadata))
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DataError(
            f"{path}: the images cannot be kept there: {error.strerror or error}. Make room, or "
            "give --store another folder."
        ) from error


def _in_memory(splits: Splits) -> list[Split]:
    return [part for part in splits.parts if isinstance(part, Split)]


def open_prepared(path: Path) -> Splits:
    """Open a prepared data set; its images are memory-mapped.

    Raises:
        DataError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(
            f"{path} is damaged: {error}. Remove it; the data are read anew at the next start."
        ) from error
    sizes = json.loads(metadata["sizes"])
    labels = tensors["labels"].split(sizes)
    parts: list[Any]
    if "images" in tensors:
        parts = list(map(Split, tensors["images"].split(sizes), labels))
    else:
        names, root = FileNames(tensors["text"], tensors["ends"]), Path(metadata["root"])
        views = [View(**view) for view in json.loads(metadata["views"])]
        firsts = (0, sizes[0], sizes[0] + sizes[1])
        parts = [
            StreamedSplit(root, names, *part) for part in zip(labels, firsts, views, strict=True)
        ]
    train, validation, test = parts
    classes, mean, std = (tuple(json.loads(metadata[key])) for key in ("classes", "mean", "std"))
    return Splits(train, validation, test, classes, mean, std, metadata["fingerprint"])

"""Sets that memory does not hold: files read, decoded and brought to size again in each epoch.

What is random about an image is drawn from a seed of its own, which comes from the training's
generator: neither the number of workers nor their order matters to the result. File names lie in
two tensors, so that workers share their pages: Python's strings are copied as they are counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sqtune.data.images import open_image, read_image, to_pixels
from sqtune.errors import DataError

LEAVE_OUT = "Or leave such files out: --set trial.data.damaged=skip."
PREFETCHED = 4  # batches that each worker has ready
Item = tuple[int, int]  # of a file its place, and a seed; -1: nothing is random
Decoded = tuple[Tensor, list[int], list[str]]  # images, their places in the batch, what failed


@dataclass(frozen=True, slots=True)
class FileNames:
    """Many file names in two tensors.

    Attributes:
        text: uint8, all names one after the other, UTF-8 with what the system's names need besides.
        ends: int64, where each ends.
    """

    text: Tensor
    ends: Tensor

    @classmethod
    def of(cls, names: Sequence[str]) -> FileNames:
        """Return names put together."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        text = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
        return cls(torch.from_numpy(text), torch.from_numpy(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        first = int(self.ends[index - 1]) if index else 0
        data = self.text[first : int(self.ends[index])].numpy().tobytes()
        return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class View:
    """What becomes of a file's image.

    Attributes:
        channels: 3 or 1.
        image_size: Height and width that come out.
        resize: Pixels of the shorter side before the crop; `image_size` where nothing is left over.
        crop: In training: `centre`, `random` anywhere in the resized image, `random_resized`.
        damaged: `error`, or `skip` for files that cannot be read.
    """

    channels: int
    image_size: int
    resize: int
    crop: Literal["centre", "random", "random_resized"]
    damaged: Literal["error", "skip"]


class StreamedSplit:
    """One part of a data set whose images are files.

    Args:
        root: What the names are relative to.
        names: Of all parts' files.
        labels: int64, N, of this part.
        first: Place of this part's first file among the names.
        view: What becomes of an image.
        chosen: Places of this part's files, from `first` on; None: all in order.
        num_workers: Processes that read and decode; 0: the one that trains.
    """

    def __init__(
        self,
        root: Path,
        names: FileNames,
        labels: Tensor,
        first: int,
        view: View,
        *,
        chosen: Tensor | None = None,
        num_workers: int = 0,
    ) -> None:
        self.root, self.names, self._first, self._chosen = root, names, first, chosen
        self.labels, self.view, self.num_workers = labels, view, num_workers

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.view.channels, self.view.image_size, self.view.image_size

    @property
    def nbytes(self) -> int:
        """Bytes that the images would take in memory."""
        return len(self) * int(np.prod(self.image_shape))

    def to(self, device: torch.device) -> StreamedSplit:
        """Return the split itself: its batches are put on a device one by one."""
        del device
        return self

    def with_workers(self, num_workers: int) -> StreamedSplit:
        """Return the split, read by so many processes."""
        return self._like(self.labels, self._chosen, num_workers)

    def part(self, ids: Tensor) -> StreamedSplit:
        """Return the split of these images alone."""
        return self._like(self.labels[ids], self._places(ids), self.num_workers)

    def take(self, ids: Tensor) -> Tensor:
        """Return these images, uint8, as they are measured."""
        return torch.cat([images for images, _ in self.fetch([ids], torch.device("cpu"))])

    def fetch(
        self,
        batches: Sequence[Tensor],
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of images (uint8) and labels on a device.

        Args:
            batches: Which images each has.
            device: Where they come out.
            generator: What seeds random crops; without one they are centre crops.

        Raises:
            DataError: A file cannot be read.
        """
        seeds: list[int] = []
        if generator is not None and self.view.crop != "centre":
            drawn = torch.randint(
                0, 2**62, (len(batches),), generator=generator, device=generator.device
            )
            seeds = drawn.tolist()
        plan = []
        for number, ids in enumerate(batches):
            places = self._places(ids).tolist()
            first = seeds[number] if seeds else None
            plan.append(
                [(place, -1 if first is None else first + n) for n, place in enumerate(places)]
            )
        for ids, (decoded, kept, problems) in zip(batches, self._loader.read(plan), strict=True):
            for problem in problems:
                if self.view.damaged == "error":
                    raise DataError(f"{problem} {LEAVE_OUT}")
                logging.getLogger(__name__).warning("left out: %s", problem)
            if not kept:
                raise DataError(
                    f"no image of a batch could be read; one of them: {problems[0]} Mend the files."
                )
            yield _on(device, decoded), _on(device, self.labels[ids[kept]])

    def in_order(self, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images and labels in batches on a device, as they are measured."""
        return self.fetch(torch.arange(len(self)).split(batch_size), device)

    def _places(self, ids: Tensor) -> Tensor:
        return ids if self._chosen is None else self._chosen[ids]

    def _like(self, labels: Tensor, chosen: Tensor | None, num_workers: int) -> StreamedSplit:
        return StreamedSplit(
            self.root,
            self.names,
            labels,
            self._first,
            self.view,
            chosen=chosen,
            num_workers=num_workers,
        )

    @cached_property
    def _loader(self) -> _Loader:
        files = _Files(self.root, self.names, self._first, self.view)
        return _Loader(files, self.num_workers)


def _on(device: torch.device, tensor: Tensor) -> Tensor:
    """Return a tensor on a device, without waiting for the device."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class _Files(Dataset[Tensor | str]):
    """Images by place and seed; an error is returned as its message, which keeps it short."""

    def __init__(self, root: Path, names: FileNames, first: int, view: View) -> None:
        self._root, self._names, self._first, self._view = root, names, first, view

    def __getitem__(self, item: Item) -> Tensor | str:
        place, seed = item
        path = self._root / self._names[self._first + place]
        try:
            return decode(path, self._view, None if seed < 0 else seed)
        except DataError as error:
            return str(error)


def decode(path: Path, view: View, seed: int | None) -> Tensor:
    """Return a file's image, uint8, channels x image_size x image_size.

    Args:
        path: The file.
        view: What becomes of it.
        seed: Of the random crop; None for a centre crop.

    Raises:
        DataError: It cannot be read as an image.
    """
    size = (view.image_size, view.image_size)
    if view.crop == "centre" or seed is None:
        pixels = read_image(path, view.channels, size, view.resize)
        return torch.from_numpy(pixels)
    from torchvision.transforms import v2

    crop: Any
    if view.crop == "random":
        crop = v2.Compose([v2.Resize(view.resize), v2.RandomCrop(view.image_size)])
    else:
        crop = v2.RandomResizedCrop(view.image_size)
    image = open_image(path, view.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.from_numpy(to_pixels(crop(image), view.channels))


class _Plan:
    """The batch sampler of a loader: what is to be read next, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Loader:
    """torch's DataLoader over changing plans: its workers, once started, stay.

    Nothing here refers to itself: workers end at once with the last reference, but are waited for
    5 seconds each where the garbage collector has to find them.
    """

    def __init__(self, files: _Files, num_workers: int) -> None:
        self._plan = _Plan()
        self._loader: DataLoader[Any] = DataLoader(
            files,
            batch_sampler=self._plan,
            num_workers=num_workers,
            collate_fn=_collate,
            persistent_workers=num_workers > 0,
            prefetch_factor=PREFETCHED if num_workers else None,
            generator=torch.Generator(),  # of its workers' seeds; the global one is dropout's
        )

    def read(self, batches: list[list[Item]]) -> Iterator[Decoded]:
        """Return the batches of a plan, in its order."""
        self._plan.batches = batches
        return iter(self._loader)


def _collate(items: list[Tensor | str]) -> Decoded:
    kept = [place for place, item in enumerate(items) if isinstance(item, Tensor)]
    images = [item for item in items if isinstance(item, Tensor)]
    problems = [item for item in items if isinstance(item, str)]
    return torch.stack(images) if images else torch.empty(0), kept, problems

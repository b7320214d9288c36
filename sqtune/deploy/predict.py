"""Class names and probabilities of images, from any exported network that runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sqtune.data.images import IMAGE_SUFFIXES, image_files, read_image
from sqtune.deploy import runtime
from sqtune.deploy.checks.seal import MANIFEST
from sqtune.deploy.exported import open_exported
from sqtune.deploy.runtime import BATCH, Logits, Pixels, Run
from sqtune.errors import DataError, ExportError


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network that runs here.

    Attributes:
        form: "onnx", "native" or "torch".
        run: Gives the logits (float32, N x classes) of pixels (uint8, N x C x H x W).
        classes: Class names, one per logit.
        image_shape: Channels, height and width.
        resize: Pixels of an image's shorter side before its centre crop; None: as few as that
            needs.
    """

    form: str
    run: Run
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    resize: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network makes of an image.

    Attributes:
        image: The file.
        top: (class name, probability), the most probable first.
    """

    image: Path
    top: tuple[tuple[str, float], ...]


def open_classifier(folder: Path, *, run_factory: bool = False) -> Classifier:
    """Open an exported folder, or that of a trained network.

    Args:
        folder: The folder.
        run_factory: Whether the code that a network for torch names may be run.

    Raises:
        ExportError: It holds no network, is damaged, or is of a form that does not run here.
        ConfigError: The factory is not there, or was not to be run.
        StoreError: The folder of a trained network is missing something or damaged.
    """
    if not (folder / MANIFEST).exists():
        return _by_torch(folder, run_factory)
    exported = open_exported(folder)
    if exported.form == "torch":
        return _by_torch(folder, run_factory)
    if exported.oldest_runtime is None:
        raise ExportError(
            f"{folder} holds C sources: compile them, as its README.md shows. "
            "To predict here: sqtune export --form onnx or torch."
        )
    runtime.refuse_older_than(exported.oldest_runtime)
    run = runtime.runner(runtime.open_session(exported.model))
    return Classifier(exported.form, run, exported.classes, exported.image_shape, exported.resize)


def _by_torch(folder: Path, run_factory: bool) -> Classifier:
    import torch

    from sqtune.deploy.load import load

    model = load(folder, run_factory=run_factory)

    def run(pixels: Pixels) -> Logits:
        logits: Logits = model(torch.from_numpy(pixels)).numpy()
        return logits

    resize = getattr(model.config.data, "resize", None)
    return Classifier("torch", run, model.classes, model.image_shape, resize)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return image files, and those below folders, each folder's sorted.

    Raises:
        DataError: A path does not exist, or a folder has no images.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Give images, or folders of images.")
        inside = image_files(path) if path.is_dir() else [path]
        if not inside:
            raise DataError(
                f"{path} has no images ({', '.join(IMAGE_SUFFIXES)}) in it. Give another folder."
            )
        found += inside
    return found


def predict(
    classifier: Classifier,
    images: Iterable[Path],
    top: int,
    on_unreadable: Callable[[Path, DataError], object],
) -> Iterator[Prediction]:
    """Yield what a network makes of each image, brought to its input as what it was measured on.

    Args:
        classifier: The network.
        images: Files.
        top: How many classes of each, at most.
        on_unreadable: Told each file that is no image, and why; it is left out.

    Raises:
        ExportError: The network has other classes than its folder says.
    """
    channels, height, width = classifier.image_shape
    rest = iter(images)
    while paths := list(islice(rest, BATCH)):
        batch, read = [], []
        for path in paths:
            try:
                read.append(read_image(path, channels, (height, width), classifier.resize))
            except DataError as error:
                on_unreadable(path, error)
            else:
                batch.append(path)
        if not batch:
            continue
        logits = classifier.run(np.stack(read))
        if logits.shape != (len(batch), len(classifier.classes)):
            raise ExportError(
                f"the network gives {logits.shape[-1]} logits where {MANIFEST} names "
                f"{len(classifier.classes)} classes. Export it anew."
            )
        for path, chances in zip(batch, probabilities(logits), strict=True):
            best = np.argsort(-chances, kind="stable")[:top]
            named = tuple((classifier.classes[index], float(chances[index])) for index in best)
            yield Prediction(path, named)


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Return each row's softmax.

    >>> probabilities(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    values = logits.astype(np.float64)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares

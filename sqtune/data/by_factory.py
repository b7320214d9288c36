"""Images of a callable of one's own, read into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from sqtune.data.images import Images
from sqtune.data.spec import DataFactory
from sqtune.errors import DataError
from sqtune.factories import call_arguments, last_line, load_callable

FIELD = "trial.data.factory"
LARGEST_IN_MEMORY = 16 * 10**9  # bytes of images
NAMES = ("train", "test")


def load_by_factory(data: DataFactory) -> tuple[Images, Images | None]:
    """Return the training images of a callable and, where it gives them, its test images.

    Raises:
        ConfigError: It cannot be imported, or does not take its arguments.
        DataError: It fails, or what it returns is no labelled set of images.
    """
    function = load_callable(data.factory, FIELD)
    arguments = call_arguments(function, data.args, {}, "trial.data.args")
    place = f"{FIELD}: {data.factory}"
    try:
        returned = function(**arguments)
    except (Exception, SystemExit) as error:
        raise DataError(f"{place} failed: {last_line(error)}. Mend it, or its args.") from error
    train, test = _sets(returned, place)
    found = _images(train, f"{place}, training set")
    if test is None:
        return found, None
    found_test = _images(test, f"{place}, test set")
    if found.pixels_NCHW.shape[1:] != found_test.pixels_NCHW.shape[1:]:
        raise DataError(
            f"{place}: training images are {_shape(found)}, test images {_shape(found_test)}. "
            "Return both of one size."
        )
    if len(found.classes) < len(found_test.classes):
        raise DataError(
            f"{place}: the test set has labels up to {len(found_test.classes) - 1}, the training "
            f"set up to {len(found.classes) - 1}. Every class needs training images."
        )
    return found, Images(found_test.pixels_NCHW, found_test.labels_N, found.classes)


def _sets(returned: Any, place: str) -> tuple[Any, Any]:
    """Return the training and the test set, or None for the latter."""
    if isinstance(returned, Mapping):
        if "train" not in returned or set(returned) - set(NAMES):
            raise DataError(
                f"{place} returned a mapping with {', '.join(map(str, returned)) or 'nothing'}: "
                "give train, and test where there is one."
            )
        return returned["train"], returned.get("test")
    if isinstance(returned, tuple) and len(returned) == 2 and not _is_pair(returned):
        return returned
    return returned, None


def _is_pair(value: Any) -> bool:
    """Tell whether a value is images and labels as two arrays."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(hasattr(part, "shape") and hasattr(part, "dtype") for part in value)
    )


def _images(given: Any, place: str) -> Images:
    if _is_pair(given):
        pixels, labels = np.asarray(given[0]), np.asarray(given[1])
        classes = None
    else:
        pixels, labels = _items(given, place)
        classes = getattr(given, "classes", None)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError(
            f"{place}: images are {pixels.dtype} of shape {pixels.shape}. Give uint8 (0 to 255, "
            "not normalised: sqtune does that), N x C x H x W."
        )
    if pixels.shape[3] in (1, 3) and pixels.shape[1] not in (1, 3):
        raise DataError(
            f"{place}: images of shape {pixels.shape} look like N x H x W x C. Give N x C x H x W: "
            "images.transpose(0, 3, 1, 2)."
        )
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{place}: labels are {labels.dtype} of shape {labels.shape} for {len(pixels)} images. "
            "Give one whole number for each."
        )
    if len(labels) == 0:
        raise DataError(f"{place} is empty. Return at least one image of each class.")
    num_classes = int(labels.max()) + 1 if classes is None else len(classes)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{place}: labels go from {labels.min()} to {labels.max()}, and there are "
            f"{num_classes} classes: give labels from 0 to {num_classes - 1}."
        )
    unused = sorted(set(range(num_classes)) - set(labels.tolist()))
    if classes is None and unused:
        raise DataError(
            f"{place}: no image has the label {', '.join(map(str, unused[:5]))}. Count classes "
            "from 0 without gaps, or name them all: a set with `classes`."
        )
    names = range(num_classes) if classes is None else classes
    contiguous = np.ascontiguousarray(pixels)
    return Images(contiguous, labels.astype(np.int64), tuple(map(str, names)))


def _items(given: Any, place: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the images and labels of something with items."""
    if not isinstance(given, Sized) or not hasattr(given, "__getitem__"):
        raise DataError(
            f"{place} is {type(given).__name__}. Give two arrays (images, labels), or something "
            "with a length whose items are (image, label)."
        )
    pixels: npt.NDArray[Any] | None = None
    labels = []
    for index in range(len(given)):
        try:
            image, label = given[index]
            array = _array(image)
            labels.append(int(label))
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{place}: item {index} is no pair of image and label: {last_line(error)}. Return "
                "pairs of an array and a whole number."
            ) from error
        if pixels is None:
            if len(given) * array.nbytes > LARGEST_IN_MEMORY:
                raise DataError(
                    f"{place}: {len(given):,} images take {len(given) * array.nbytes / 1e9:.0f} "
                    "GB, more than memory should hold. Write them to a folder and take "
                    "image_folder, which streams."
                )
            pixels = np.empty((len(given), *array.shape), array.dtype)
        if array.shape != pixels.shape[1:] or array.dtype != pixels.dtype:
            raise DataError(
                f"{place}: item {index} is {array.dtype} of shape {array.shape} while others are "
                f"{pixels.dtype} of shape {pixels.shape[1:]}. Give all the same size."
            )
        pixels[index] = array
    if pixels is None:
        raise DataError(f"{place} is empty. Return at least one image of each class.")
    return pixels, np.asarray(labels, dtype=np.int64)


def _array(image: Any) -> npt.NDArray[Any]:
    """Return an image's pixels, C x H x W or H x W; those of PIL are H x W x C."""
    array = np.asarray(image)
    if hasattr(image, "getbands") and array.ndim == 3:
        array = array.transpose(2, 0, 1)
    return array


def _shape(images: Images) -> str:
    return "x".join(map(str, images.pixels_NCHW.shape[1:]))

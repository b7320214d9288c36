"""Which data: frozen descriptions that need neither torch nor torchvision to be read or checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def _check_split(validation: float, test: float) -> None:
    if not 0 < validation < 1:
        raise ValueError(f"validation is a share of the images in (0, 1), not {validation}.")
    if not 0 < test < 1:
        raise ValueError(f"test is a share of the images in (0, 1), not {test}.")
    if validation + test >= 1:
        raise ValueError(
            f"validation and test leave nothing to train on: {validation} + {test} is not below 1."
        )


def _check_crop(crop_padding: int) -> None:
    if not 0 <= crop_padding <= 64:
        raise ValueError(f"crop_padding is 0 to 64 pixels, not {crop_padding}.")


@dataclass(frozen=True, slots=True)
class Digits:
    """scikit-learn's 1,797 real handwritten digits, 8x8, grey, 10 classes; no download.

    Attributes:
        validation: Share of the images that ranks the trials.
        test: Share of the images that is touched once, for the chosen network.
        split_seed: Seed of the stratified split.
        crop_padding: Pixels of zero padding around a training image before its random crop.
        mirror: Whether half of the training images are mirrored. Digits are not symmetric.
    """

    name: Literal["digits"] = "digits"
    validation: float = 0.25
    test: float = 0.15
    split_seed: int = 0
    crop_padding: int = 1
    mirror: bool = False

    def __post_init__(self) -> None:
        _check_split(self.validation, self.test)
        _check_crop(self.crop_padding)


@dataclass(frozen=True, slots=True)
class Cifar:
    """CIFAR-10 or CIFAR-100, 32x32, colour, with its own test split; downloaded at first use.

    Attributes:
        name: Which one.
        root: Folder of the download; "~" is the home folder.
        validation: Share of the 50,000 training images that ranks the trials.
        split_seed: Seed of the stratified split.
        crop_padding: Pixels of zero padding around a training image before its random crop.
        mirror: Whether half of the training images are mirrored.
    """

    name: Literal["cifar10", "cifar100"] = "cifar10"
    root: str = "~/.cache/sqtune"
    validation: float = 0.1
    split_seed: int = 0
    crop_padding: int = 4
    mirror: bool = True

    def __post_init__(self) -> None:
        _check_split(self.validation, 0.1)
        _check_crop(self.crop_padding)


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder of images, one sub-folder per class.

    Either ROOT/train/CLASS/* and ROOT/test/CLASS/*, or ROOT/CLASS/* from which `test` is split off.

    Attributes:
        root: The folder.
        image_size: Height and width the images are brought to (shorter side resized, centre
            cropped). None: all images already have one size.
        channels: 3 (colour) or 1 (grey).
        validation: Share of the training images that ranks the trials.
        test: Share that is split off for the test where the folder has no test split of its own.
        split_seed: Seed of the stratified split.
        crop_padding: Pixels of zero padding around a training image before its random crop.
        mirror: Whether half of the training images are mirrored.
    """

    root: str
    name: Literal["image_folder"] = "image_folder"
    image_size: int | None = None
    channels: Literal[1, 3] = 3
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    crop_padding: int = 4
    mirror: bool = True

    def __post_init__(self) -> None:
        _check_split(self.validation, self.test)
        _check_crop(self.crop_padding)
        if self.image_size is not None and not 1 <= self.image_size <= 1024:
            raise ValueError(f"image_size is 1 to 1024 pixels, not {self.image_size}.")


Data = Digits | Cifar | ImageFolder


def known_image_size(data: Data) -> tuple[int, int] | None:
    """Return (height, width) where the description alone gives it."""
    match data:
        case Digits():
            return 8, 8
        case Cifar():
            return 32, 32
        case ImageFolder(image_size=int(size)):
            return size, size
    return None


def known_channels(data: Data) -> int:
    """Return the channels of an image, which the description gives in any case."""
    match data:
        case Digits():
            return 1
        case Cifar():
            return 3
        case ImageFolder(channels=channels):
            return channels

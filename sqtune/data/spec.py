"""Which data: frozen descriptions that need neither torch nor torchvision to be read or checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sqtune.factories import Args, check_name

Storage = Literal["auto", "memory", "stream"]
Damaged = Literal["error", "skip"]
Channels = tuple[float, ...] | None


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


def _check_normalisation(mean: Channels, std: Channels, num_channels: int | None) -> None:
    if (mean is None) != (std is None):
        raise ValueError("mean and std go together: give both, or neither to measure them.")
    if mean is None or std is None:
        return
    if len(mean) != len(std) or num_channels not in (None, len(mean)):
        raise ValueError(
            f"mean and std have one number for each of the {num_channels or len(mean)} channels, "
            f"not {len(mean)} and {len(std)}."
        )
    if not all(0 <= each <= 1 for each in mean) or not all(0 < each <= 1 for each in std):
        raise ValueError(
            "mean and std are of values in 0..1 (255 is 1), and std is above 0: "
            f"not {list(mean)} and {list(std)}."
        )


def _check_image_size(image_size: int | None) -> None:
    if image_size is not None and not 1 <= image_size <= 1024:
        raise ValueError(f"image_size is 1 to 1024 pixels, not {image_size}.")


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
        mean: Per channel, of values in 0..1, subtracted from the images; by default that of the
            training images.
        std: Per channel, of values in 0..1, that they are divided by; with `mean`.
    """

    name: Literal["cifar10", "cifar100"] = "cifar10"
    root: str = "~/.cache/sqtune"
    validation: float = 0.1
    split_seed: int = 0
    crop_padding: int = 4
    mirror: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_split(self.validation, 0.1)
        _check_crop(self.crop_padding)
        _check_normalisation(self.mean, self.std, 3)


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
        mean: Per channel, of values in 0..1, subtracted from the images; by default that of the
            training images.
        std: Per channel, of values in 0..1, that they are divided by; with `mean`.
        storage: `memory`: read once, kept as one file that all trials of a machine share.
            `stream`: read and decoded again in each epoch, for sets that memory does not hold; it
            needs `image_size`. `auto`: `stream` where the set would take more than 4 GB.
        damaged: What becomes of files that cannot be read: `error` names the first one, `skip`
            leaves them out and says so: how many, or of a streamed set each as it comes.
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
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    storage: Storage = "auto"
    damaged: Damaged = "error"

    def __post_init__(self) -> None:
        _check_split(self.validation, self.test)
        _check_crop(self.crop_padding)
        _check_image_size(self.image_size)
        _check_normalisation(self.mean, self.std, self.channels)
        if self.storage == "stream" and self.image_size is None:
            raise ValueError(
                "storage: stream needs image_size, the pixels that every image is brought to, such "
                "as 224."
            )


@dataclass(frozen=True, slots=True)
class ImageNet:
    """ImageNet, or any set in its layout: ROOT/train/CLASS/*.JPEG and ROOT/val/CLASS/*.JPEG.

    `val` is the test split, touched once; the validation split that ranks trials is taken from
    `train`. Images are streamed: read, decoded and cropped anew in each epoch.

    Attributes:
        root: The folder.
        image_size: Height and width of what the network sees.
        resize: Pixels of the shorter side before the crop: a centre crop for measuring.
        crop: In training: `random`, anywhere in the resized image (the paper); `random_resized`,
            8 to 100 % of the area, a ratio of 3:4 to 4:3 (Szegedy et al., 2015).
        mirror: Whether half of the training images are mirrored.
        validation: Share of the training images that ranks the trials.
        split_seed: Seed of the stratified split.
        mean: Per channel, of values in 0..1, subtracted from the images; by default that of
            ImageNet's training images.
        std: Per channel, of values in 0..1, that they are divided by; with `mean`.
        damaged: As for a folder of images.
    """

    root: str
    name: Literal["imagenet"] = "imagenet"
    image_size: int = 224
    resize: int = 256
    crop: Literal["random", "random_resized"] = "random"
    mirror: bool = True
    validation: float = 0.01
    split_seed: int = 0
    mean: tuple[float, ...] | None = (0.485, 0.456, 0.406)
    std: tuple[float, ...] | None = (0.229, 0.224, 0.225)
    damaged: Damaged = "error"

    def __post_init__(self) -> None:
        _check_split(self.validation, 0.1)
        _check_image_size(self.image_size)
        _check_normalisation(self.mean, self.std, 3)
        if not self.image_size <= self.resize <= 2048:
            raise ValueError(
                f"resize is {self.image_size} (image_size) to 2048 pixels, not {self.resize}."
            )

    @property
    def channels(self) -> Literal[3]:
        """Colour."""
        return 3

    @property
    def crop_padding(self) -> int:
        """No padding: the crop is taken from the larger, resized image."""
        return 0


@dataclass(frozen=True, slots=True)
class DataFactory:
    """Images of a callable of one's own.

    It is called with `args` and returns one labelled set, or two: training and test, as a tuple or
    as a mapping with these keys. A set is a pair of arrays or tensors (uint8, N x C x H x W or, of
    one channel, N x H x W; whole numbers, N), or anything with a length whose items are pairs of
    an image (PIL, or an array of uint8, C x H x W or H x W) and a label, such as a dataset of
    torchvision. Class names are taken from its `classes`, where it has them.

    Attributes:
        factory: "package.module:function", importable from the working directory.
        args: What it is called with.
        validation: Share of the training images that ranks the trials.
        test: Share that is split off for the test where there is one set.
        split_seed: Seed of the stratified split.
        crop_padding: Pixels of zero padding around a training image before its random crop.
        mirror: Whether half of the training images are mirrored.
        mean: Per channel, of values in 0..1, subtracted from the images; by default that of the
            training images.
        std: Per channel, of values in 0..1, that they are divided by; with `mean`.
    """

    factory: str
    args: dict[str, Any] = field(default_factory=Args)
    name: Literal["factory"] = "factory"
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    crop_padding: int = 0
    mirror: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_name(self.factory)
        object.__setattr__(self, "args", Args(self.args))
        _check_split(self.validation, self.test)
        _check_crop(self.crop_padding)
        _check_normalisation(self.mean, self.std, None)


Data = Digits | Cifar | ImageFolder | ImageNet | DataFactory


def known_image_size(data: Data) -> tuple[int, int] | None:
    """Return (height, width) where the description alone gives it."""
    match data:
        case Digits():
            return 8, 8
        case Cifar():
            return 32, 32
        case ImageFolder(image_size=int(size)) | ImageNet(image_size=size):
            return size, size
    return None


def known_channels(data: Data) -> int | None:
    """Return the channels of an image where the description alone gives them."""
    match data:
        case Digits():
            return 1
        case Cifar() | ImageNet():
            return 3
        case ImageFolder(channels=channels):
            return channels
    return None

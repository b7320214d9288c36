"""Folders of images: what is read is what is there, and every fault names its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from sqtune.data import ImageFolder
from sqtune.data.images import read_image
from sqtune.data.prepare import prepare, prepared_path
from sqtune.errors import DataError


def noise(seed: int, size: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def fill(folder: Path, *, classes="ab", count=10, size=9, suffix="png") -> Path:
    """Write `count` noisy images per class; return the folder."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = Image.fromarray(noise(100 * number + index, size))
            image.save(folder / name / f"{index}.{suffix}")
    return folder


def constant(path: Path, size: tuple[int, int], colour) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def all_images(splits) -> torch.Tensor:
    return torch.cat([splits.train.images, splits.validation.images, splits.test.images])


def test_a_flat_folder_is_read_bit_for_bit_into_its_classes(tmp_path):
    splits = prepare(ImageFolder(str(fill(tmp_path)), validation=0.2, test=0.3))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 4, 6]
    found = {}
    for part in (splits.train, splits.validation, splits.test):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            found[image.numpy().tobytes()] = splits.classes[label]
    expected = {
        noise(100 * number + index).transpose(2, 0, 1).tobytes(): name
        for number, name in enumerate("ab")
        for index in range(10)
    }
    assert found == expected


def test_sixteen_bits_are_scaled_and_photos_stand_upright(tmp_path):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png", 1)[0] == deep >> 8).all()
    photo = Image.new("RGB", (8, 4))
    photo.paste((255, 255, 255), (0, 0, 8, 1))  # a white top
    how_held = photo.getexif()
    how_held[ExifTags.Base.Orientation] = 6  # to be turned right by a quarter
    photo.save(tmp_path / "photo.png", exif=how_held)
    pixels = read_image(tmp_path / "photo.png", 3)
    assert pixels.shape == (3, 8, 4)
    assert (pixels[:, :, -1] == 255).all()
    assert (pixels[:, :, :-1] == 0).all()


def test_pixels_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), dtype=np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"deep.tif .*save it with 8 or 16"):
        read_image(tmp_path / "deep.tif", 1)


def test_what_cannot_be_kept_leaves_nothing_half_written(tmp_path):
    (tmp_path / "data").write_text("a file where a folder is wanted")
    with pytest.raises(DataError, match=r"cannot be kept there: .* --store"):
        prepare(ImageFolder(str(fill(tmp_path / "images"))), tmp_path / "data")


def test_a_folder_with_train_alone_is_split_three_ways(tmp_path):
    fill(tmp_path / "train")
    splits = prepare(ImageFolder(str(tmp_path), validation=0.2, test=0.3))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 4, 6]


def test_a_test_folder_is_the_test_split_and_nothing_else_is(tmp_path):
    fill(tmp_path / "train")
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        constant(tmp_path / "test" / name / "0.png", (9, 9), colour)
    splits = prepare(ImageFolder(str(tmp_path), validation=0.2, test=0.7))
    assert splits.test.images[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert splits.test.labels.tolist() == [0, 1]
    assert (len(splits.train), len(splits.validation)) == (16, 4)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "bmp", "webp", "ppm", "tiff"])
def test_other_formats_are_read_too(tmp_path, suffix):
    fill(tmp_path, suffix=suffix)
    assert len(all_images(prepare(ImageFolder(str(tmp_path))))) == 20


def test_no_image_is_passed_over_in_silence(tmp_path):
    fill(fill(tmp_path), suffix="gif")
    assert len(all_images(prepare(ImageFolder(str(tmp_path))))) == 40


def test_image_size_takes_the_centre_and_scales_the_shorter_side(tmp_path):
    for name in "ab":
        for index in range(10):
            constant(tmp_path / name / f"{index}.png", (40, 20), (255, 0, 0))
            with Image.open(tmp_path / name / f"{index}.png") as image:
                image.paste((0, 255, 0), (10, 0, 30, 20))  # the middle square
                image.save(tmp_path / name / f"{index}.png")
    for size in (20, 10):
        images = all_images(prepare(ImageFolder(str(tmp_path), image_size=size)))
        assert images.shape == (20, 3, size, size)
        inside = images[:, :, :, 1:-1] if size == 10 else images  # scaling blurs the edges
        assert inside.float().mean((0, 2, 3)).tolist() == [0, 255, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_prepared_folder_opens_with_the_same_images(tmp_path, channels):
    data = ImageFolder(str(fill(tmp_path / "images")), channels=channels)
    first, again = prepare(data, tmp_path), prepare(data, tmp_path)
    assert prepared_path(data, tmp_path).exists()
    assert torch.equal(all_images(first), all_images(again))
    assert all_images(prepare(data)).is_contiguous()


def test_grey_is_the_luma_of_the_colours(tmp_path):
    colours = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for index, colour in enumerate(colours * 4):
        for name in "ab":
            constant(tmp_path / name / f"{index:02}.png", (8, 8), colour)
    splits = prepare(ImageFolder(str(tmp_path), channels=1))
    assert splits.num_channels == len(splits.mean) == 1
    expected = {round(0.299 * red + 0.587 * green + 0.114 * blue) for red, green, blue in colours}
    assert set(all_images(splits).unique().tolist()) == expected


def test_a_grey_image_has_three_equal_channels_where_colour_is_asked_for(tmp_path):
    fill(tmp_path)
    with Image.open(tmp_path / "a" / "0.png") as image:
        image.convert("L").save(tmp_path / "a" / "0.png")
    images = all_images(prepare(ImageFolder(str(tmp_path))))
    equal = (images[:, 0] == images[:, 1]) & (images[:, 1] == images[:, 2])
    assert int(equal.all(dim=(1, 2)).sum()) == 1


def test_the_statistics_are_per_channel(tmp_path):
    splits = prepare(ImageFolder(str(fill(tmp_path))))
    pixels = splits.train.images.double() / 255
    assert splits.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert splits.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_a_channel_of_one_value_can_be_normalised(tmp_path):
    for name in "ab":
        for index in range(10):
            constant(tmp_path / name / f"{index}.png", (8, 8), (9, 9, 9))
    assert all(value > 0 for value in prepare(ImageFolder(str(tmp_path))).std)


def test_a_new_or_changed_image_makes_another_prepared_file(tmp_path):
    data = ImageFolder(str(fill(tmp_path / "images")))
    first = prepared_path(data, tmp_path)
    constant(tmp_path / "images" / "a" / "0.png", (9, 9), (1, 2, 3))
    second = prepared_path(data, tmp_path)
    constant(tmp_path / "images" / "a" / "new.png", (9, 9), (1, 2, 3))
    assert len({first, second, prepared_path(data, tmp_path)}) == 3


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named_with_a_remedy(tmp_path, suffix):
    fill(tmp_path, suffix=suffix, size=32)
    path = tmp_path / "b" / f"3.{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"{path} cannot be read as an image: .*remove it"):
        prepare(ImageFolder(str(tmp_path)))


def test_the_odd_size_out_is_named_with_a_remedy(tmp_path):
    fill(tmp_path)
    constant(tmp_path / "b" / "9.png", (7, 5), (0, 0, 0))
    with pytest.raises(DataError, match=r"9\.png is 5x7 while others are 9x9.*image_size"):
        prepare(ImageFolder(str(tmp_path)))
    assert prepare(ImageFolder(str(tmp_path), image_size=8)).image_size == (8, 8)


@pytest.mark.parametrize("folder", [None, "cache"])
def test_a_test_split_of_another_size_is_an_error(tmp_path, folder):
    fill(tmp_path / "images" / "train")
    fill(tmp_path / "images" / "test", size=7)
    with pytest.raises(DataError, match="image_size"):
        prepare(ImageFolder(str(tmp_path / "images")), folder and tmp_path / folder)


@pytest.mark.parametrize("missing_in", ["train", "test"])
def test_a_class_that_one_split_lacks_is_named(tmp_path, missing_in):
    for part in ("train", "test"):
        fill(tmp_path / part, classes="ab" if part == missing_in else "abc")
    with pytest.raises(DataError, match=rf"differ in their classes: .*{missing_in} lacks c\."):
        prepare(ImageFolder(str(tmp_path)))


def test_folders_without_images_or_classes_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder\. Give the folder"):
        prepare(ImageFolder(str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="has no images"):
        prepare(ImageFolder(str(tmp_path)))
    constant(tmp_path / "0.png", (8, 8), (0, 0, 0))
    with pytest.raises(DataError, match="one folder of images per class"):
        prepare(ImageFolder(str(tmp_path)))
    fill(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        prepare(ImageFolder(str(tmp_path)))


def test_images_beside_train_that_nobody_reads_are_named(tmp_path):
    fill(tmp_path / "train")
    (tmp_path / "notes").mkdir()
    fill(tmp_path / ".thumbnails")
    assert prepare(ImageFolder(str(tmp_path))).classes == ("a", "b")
    fill(tmp_path / "val")
    with pytest.raises(DataError, match=r"in train and in val, but no test\. Name .* test"):
        prepare(ImageFolder(str(tmp_path)))
    fill(tmp_path / "test")
    assert len(prepare(ImageFolder(str(tmp_path))).test) == 20


def test_parts_with_other_names_are_not_taken_for_classes(tmp_path):
    for part in ("Training", "Testing"):
        fill(tmp_path / "set" / part)
    with pytest.raises(DataError, match=r"Testing, Training hold no images .* such as a\. Name"):
        prepare(ImageFolder(str(tmp_path / "set")))
    for name in "ab":  # Tiny ImageNet's classes: their images lie in a folder of their own
        fill(tmp_path / "tiny" / name, classes=["images"])
    assert prepare(ImageFolder(str(tmp_path / "tiny"))).classes == ("a", "b")


def test_what_memory_is_too_small_for_is_told_before_it_is_read(tmp_path, monkeypatch):
    fill(tmp_path)
    # 4 GB of images would take minutes to write
    monkeypatch.setattr("sqtune.data.folders.LARGEST_IN_MEMORY", 20 * 9 * 9 * 3 - 1)
    with pytest.raises(DataError, match=r"20 images like a/0\.png .* Give trial\.data\.image_size"):
        prepare(ImageFolder(str(tmp_path)))
    assert len(prepare(ImageFolder(str(tmp_path), storage="memory")).train) > 0
    monkeypatch.setattr("sqtune.data.folders.LARGEST_IN_MEMORY", 20 * 9 * 9 * 3)
    assert len(prepare(ImageFolder(str(tmp_path))).train) > 0


def test_too_few_images_to_split_are_an_error(tmp_path):
    with pytest.raises(DataError, match="4 images are too few"):
        prepare(ImageFolder(str(fill(tmp_path, count=2))))

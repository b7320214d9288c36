"""Splits: stratified shares, the seed alone decides, one memory-mapped file that is the data."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

from sqtune.data import Digits, known_image_size
from sqtune.data.prepare import prepare, prepared_path
from sqtune.data.spec import Cifar, ImageFolder
from sqtune.data.split import Splits
from sqtune.errors import DataError

PARTS = ("train", "validation", "test")


def rows(splits: Splits, part: str) -> list[tuple[bytes, int]]:
    """Return the images of a part with their labels, sorted."""
    split = getattr(splits, part)
    pixels = [image.numpy().tobytes() for image in split.images]
    return sorted(zip(pixels, split.labels.tolist(), strict=True))


def mapped_files(address: int) -> list[str]:
    """Return the file behind an address of this process's memory (Linux)."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= address < last:
            found += line.split()[5:]
    return found


def test_every_digit_is_in_one_split_with_its_own_label():
    splits, source = prepare(Digits()), datasets.load_digits()
    pixels = np.rint(source.images * 255 / 16).astype(np.uint8)
    expected = sorted(
        (image.tobytes(), int(label)) for image, label in zip(pixels, source.target, strict=True)
    )
    assert sorted(row for part in PARTS for row in rows(splits, part)) == expected


@pytest.mark.parametrize(
    ("validation", "test"), [(0.25, 0.15), (0.1, 0.1), (0.5, 0.4), (0.33, 0.5)]
)
def test_each_class_has_the_stated_shares(validation, test):
    splits = prepare(Digits(validation=validation, test=test))
    for label in range(10):
        train, first, second = (int((getattr(splits, p).labels == label).sum()) for p in PARTS)
        total = train + first + second
        assert abs(first - validation * total) <= 0.5
        assert abs(train - (1 - validation - test) * total) <= 0.5
        assert abs(second - test * total) <= 1


def test_only_the_split_seed_decides_which_image_is_where():
    random.seed(1)
    first = prepare(Digits())
    random.seed(2)
    torch.manual_seed(2)
    np.random.seed(2)
    again = prepare(Digits(crop_padding=0, mirror=True))
    other = prepare(Digits(split_seed=1))
    for part in PARTS:
        assert torch.equal(getattr(first, part).images, getattr(again, part).images)
        assert rows(first, part) != rows(other, part)
        assert len(getattr(first, part)) == len(getattr(other, part))


def test_the_statistics_are_of_the_training_split_alone():
    splits = prepare(Digits())
    pixels = splits.train.images.double() / 255
    assert splits.mean[0] == pytest.approx(float(pixels.mean()), rel=1e-12)
    assert splits.std[0] == pytest.approx(float(pixels.std(correction=0)), rel=1e-12)
    everything = torch.cat([getattr(splits, part).images for part in PARTS]).double() / 255
    assert splits.mean[0] != pytest.approx(float(everything.mean()), rel=1e-6)


def test_a_prepared_file_is_equal_in_every_part(tmp_path):
    plain = prepare(Digits())
    for stored in (prepare(Digits(), tmp_path), prepare(Digits(), tmp_path)):
        for part in PARTS:
            for name in ("images", "labels"):
                ours, theirs = (getattr(getattr(one, part), name) for one in (plain, stored))
                assert torch.equal(ours, theirs)
                assert ours.dtype == theirs.dtype
        facts = ("classes", "mean", "std", "fingerprint", "num_channels", "image_size")
        assert [getattr(plain, name) for name in facts] == [getattr(stored, name) for name in facts]


def test_a_prepared_file_is_memory_mapped_and_never_rewritten(tmp_path):
    folder, stats = tmp_path / "new", []
    for _ in range(3):
        splits = prepare(Digits(), folder)
        [path] = folder.iterdir()
        stats.append((path.stat().st_ino, path.stat().st_mtime_ns))
        for part in PARTS:
            assert mapped_files(getattr(splits, part).images.data_ptr()) == [str(path)]
        assert torch.equal(splits.train.images, prepare(Digits()).train.images)
        splits.train.images.zero_()  # a private copy of the pages: the file stays as it is
    assert len(set(stats)) == 1


def test_the_file_s_name_holds_what_makes_it_and_no_augmentation(tmp_path):
    base = Digits()
    same = [Digits(crop_padding=0), Digits(mirror=True)]
    other = [Digits(split_seed=1), Digits(validation=0.2), Digits(test=0.2)]
    assert {prepared_path(data, tmp_path) for data in [base, *same]} == {
        prepared_path(base, tmp_path)
    }
    assert len({prepared_path(data, tmp_path) for data in [base, *other]}) == 4


def test_a_damaged_prepared_file_is_a_data_error_that_names_it(tmp_path):
    prepare(Digits(), tmp_path)
    path = prepared_path(Digits(), tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=path.name):
        prepare(Digits(), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": 0.0},
        {"validation": 1.0},
        {"test": 0.0},
        {"validation": 0.6, "test": 0.4},
        {"crop_padding": -1},
        {"crop_padding": 65},
    ],
    ids=str,
)
def test_impossible_shares_and_crops_are_refused(changes):
    with pytest.raises(ValueError, match="|".join(changes)):
        Digits(**changes)
    with pytest.raises(ValueError, match="|".join(changes)):
        ImageFolder("images", **changes)


def test_shares_too_small_for_the_data_are_a_data_error():
    with pytest.raises(DataError, match="1797 images are too few"):
        prepare(Digits(validation=0.001))


def test_the_image_size_is_known_where_the_description_has_it():
    assert known_image_size(Digits()) == (8, 8)
    assert known_image_size(Cifar()) == (32, 32)
    assert known_image_size(ImageFolder("images")) is None
    assert known_image_size(ImageFolder("images", image_size=20)) == (20, 20)


def test_splits_keep_everything_on_their_way_to_a_device():
    splits = prepare(Digits())
    moved = splits.to(torch.device("cpu"))
    assert replace(moved, train=splits.train, validation=splits.validation, test=splits.test) == (
        splits
    )


def test_images_lie_alike_in_memory_and_from_a_file(tmp_path):
    # strides choose torch's convolution kernels, and with them the last bits of a training
    for splits in (prepare(Digits()), prepare(Digits(), tmp_path), prepare(Digits(), tmp_path)):
        for part in PARTS:
            assert getattr(splits, part).images.stride() == (64, 64, 8, 1)

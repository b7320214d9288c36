"""Data: disjoint stratified splits, one memory-mapped file, exact augmentation, honest errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sqtune.data import Digits, ImageFolder
from sqtune.data.batches import random_crop, random_mirror, training_batches
from sqtune.data.split import Split, prepare, prepared_path
from sqtune.errors import DataError


def as_rows(split: Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]


def make_folder(root, parts=("train", "test"), classes=("cat", "dog"), count=10, size=(9, 9)):
    rng = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_splits_of_the_digits_are_disjoint_and_cover_everything():
    splits = prepare(Digits())
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part) for part in parts] == [1078, 451, 268]
    rows = [row for part in parts for row in as_rows(part)]
    assert len(rows) == len(set(rows)) == 1797
    for label in range(10):
        shares = [int((part.labels == label).sum()) for part in parts]
        assert shares[1] == pytest.approx(0.25 * sum(shares), abs=1)
        assert shares[2] == pytest.approx(0.15 * sum(shares), abs=1)


def test_the_split_belongs_to_its_seed():
    first, again, other = (prepare(Digits(split_seed=seed)) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_normalisation_is_that_of_the_training_split():
    splits = prepare(Digits())
    pixels = splits.train.images.double() / 255
    assert splits.mean[0] == pytest.approx(float(pixels.mean()))
    assert splits.std[0] == pytest.approx(float(pixels.std(correction=0)))


def test_a_prepared_file_is_the_data_bit_for_bit_and_written_once(tmp_path):
    plain, stored = prepare(Digits()), prepare(Digits(), tmp_path)
    path = prepared_path(Digits(crop_padding=3, mirror=True), tmp_path)  # not of the file's making
    written = path.stat().st_mtime_ns
    again = prepare(Digits(crop_padding=3), tmp_path)
    assert path.stat().st_mtime_ns == written
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    for splits in (stored, again):
        assert torch.equal(splits.train.images, plain.train.images)
        assert torch.equal(splits.test.labels, plain.test.labels)
        assert splits.fingerprint == plain.fingerprint
    assert prepared_path(Digits(split_seed=1), tmp_path) != path


def test_a_folder_with_a_test_split_keeps_it(tmp_path):
    root = make_folder(tmp_path)
    splits = prepare(ImageFolder(str(root), validation=0.2))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 4, 20)
    assert splits.classes == ("cat", "dog")
    assert splits.train.images.shape[1:] == (3, 9, 9)


def test_a_flat_folder_is_split_three_ways_and_resized(tmp_path):
    make_folder(tmp_path, parts=(".",))
    data = ImageFolder(str(tmp_path), image_size=8, channels=1, validation=0.2, test=0.2)
    splits = prepare(data)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 4, 4)
    assert splits.train.images.shape[1:] == (1, 8, 8)


def test_images_of_several_sizes_are_an_error_that_names_file_and_remedy(tmp_path):
    make_folder(tmp_path)
    Image.new("RGB", (12, 10)).save(tmp_path / "train" / "dog" / "other.png")
    with pytest.raises(DataError, match=r"other\.png is 10x12 .*image_size"):
        prepare(ImageFolder(str(tmp_path)))


def test_a_damaged_image_is_named(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train" / "cat" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png cannot be read"):
        prepare(ImageFolder(str(tmp_path)))


def test_a_class_missing_in_the_test_split_is_named(tmp_path):
    make_folder(tmp_path)
    make_folder(tmp_path, parts=("train",), classes=("horse",))
    with pytest.raises(DataError, match="horse"):
        prepare(ImageFolder(str(tmp_path)))


def test_a_missing_and_an_empty_folder_are_errors(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        prepare(ImageFolder(str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="has no images"):
        prepare(ImageFolder(str(tmp_path)))


def test_a_random_crop_is_a_window_of_the_padded_image():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (200, 2, 8, 8), dtype=torch.uint8, generator=generator)
    cropped = random_crop(images, 2, generator)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for image, crop in zip(padded, cropped, strict=True):
        windows = {
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image[:, top : top + 8, left : left + 8], crop)
        }
        assert windows
        seen |= windows
    assert len(seen) == 25


def test_about_half_of_the_images_are_mirrored_exactly():
    images = torch.arange(1000 * 4, dtype=torch.int16).reshape(1000, 1, 1, 4)
    mirrored = random_mirror(images, torch.Generator().manual_seed(0))
    flipped = (mirrored == images.flip(3)).all(dim=3).flatten()
    assert torch.equal(mirrored[~flipped], images[~flipped])
    assert 400 < int(flipped.sum()) < 600


def test_an_epoch_takes_every_image_at_most_once_in_an_order_of_its_own():
    split = Split(torch.arange(50, dtype=torch.uint8).reshape(50, 1, 1, 1), torch.arange(50))

    def epoch(batch_size: int, seed: int) -> list[list[int]]:
        batches = training_batches(
            split,
            batch_size,
            crop_padding=0,
            mirror=False,
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(seed),
        )
        return [labels.tolist() for _, labels in batches]

    batches = epoch(8, 0)
    assert [len(labels) for labels in batches] == [8] * 6
    flat = [label for labels in batches for label in labels]
    assert len(set(flat)) == 48
    assert epoch(8, 0) == batches != epoch(8, 1)
    assert [sorted(labels) for labels in epoch(100, 0)] == [list(range(50))]

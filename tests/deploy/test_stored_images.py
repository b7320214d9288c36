"""Images are read without pickle, and only where their types and shapes fit."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_networks import images

from sqtune.deploy.checks.stored_images import StoredImages, stored_images, to_npz
from sqtune.errors import ExportError


def stored(num=4, classes=5):
    labels = np.zeros(num, np.int64)
    return StoredImages(images(num).numpy(), labels, np.ones((num, classes), np.float32))


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(Path("executed").absolute()),)


def test_images_are_read_as_they_were_stored_by_us_and_by_numpy():
    good = stored()
    by_numpy = npz(images=good.images, labels=good.labels, logits=good.logits)
    for data in (to_npz(good), by_numpy):
        found = stored_images(data, (3, 12, 12), 5)
        for name in ("images", "labels", "logits"):
            assert np.array_equal(getattr(found, name), getattr(good, name))
    assert to_npz(good) == to_npz(good)


def test_pickles_are_refused_unexecuted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = stored()
    objects = np.empty(4, object)
    objects[:] = [Bomb() for _ in range(4)]
    for name in ("images", "labels", "logits"):
        arrays = {"images": good.images, "labels": good.labels, "logits": good.logits}
        with pytest.raises(ExportError, match=f"{name} is of type object"):
            stored_images(npz(**{**arrays, name: objects}), (3, 12, 12), 5)
    assert not (tmp_path / "executed").exists()


def test_images_of_other_types_shapes_and_numbers():
    good = stored()
    arrays = {"images": good.images, "labels": good.labels, "logits": good.logits}
    infinite = good.logits.copy()
    infinite[2, 1] = np.inf
    for name, wrong, message in [
        ("images", good.images.astype(np.int8), "images is of type int8"),
        ("images", good.images[:3], "images has shape"),
        ("images", np.asfortranarray(good.images), "in C order"),
        ("labels", good.labels + 5, "labels are not all 0 to 4"),
        ("labels", good.labels - 1, "labels are not all 0 to 4"),
        ("labels", good.labels.astype(">i8"), "labels is of type >i8"),
        ("logits", infinite, "logits are not finite"),
        ("logits", good.logits[:0], "logits has shape"),
        ("logits", np.ones((1001, 5), np.float32), "with up to 1000 rows"),
        ("more", good.labels, "other files than its three"),
    ]:
        with pytest.raises(ExportError, match=message):
            stored_images(npz(**{**arrays, name: wrong}), (3, 12, 12), 5)


def test_an_archive_that_unpacks_to_too_much():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("images", "labels", "logits"):
            archive.writestr(f"{name}.npy", to_npy(stored(), name))
        archive.filelist[0].file_size = 1 << 40
    with pytest.raises(ExportError, match=r"take more than|damaged"):
        stored_images(file.getvalue(), (3, 12, 12), 5)


def to_npy(found, name):
    file = io.BytesIO()
    np.save(file, getattr(found, name))
    return file.getvalue()

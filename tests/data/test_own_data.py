"""Images of a callable of one's own: what it may return, and what is told where it does not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sqtune.config.trial import TrialConfig
from sqtune.data import DataFactory
from sqtune.data.prepare import prepare, prepared_path
from sqtune.errors import ConfigError, DataError

MODULE = '''
import numpy as np
import torch
from PIL import Image

def pixels(n, shape=(3, 9, 7), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)

def labels(n):
    return np.arange(n) % 4

class Items:
    """As a dataset of torchvision: PIL images, with names of classes."""
    classes = ["n", "e", "s", "w"]
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i):
        return Image.fromarray(pixels(self.n)[i].transpose(1, 2, 0)), int(labels(self.n)[i])

def arrays(n=40): return pixels(n), labels(n)
def tensors(n=40): return torch.from_numpy(pixels(n)), torch.from_numpy(labels(n))
def items(n=40): return Items(n)
def both(n=40): return arrays(n), (pixels(8, seed=1), labels(8))
def mapping(n=40): return {"train": items(n), "test": Items(8)}
def grey(n=40): return pixels(n, (9, 7)), labels(n)
def fails(): raise FileNotFoundError("the disk is not mounted")
def floats(n=40): return pixels(n).astype(np.float32) / 255, labels(n)
def strange(n=40): return {"train": arrays(n), "holdout": arrays(n)}
def nothing(): return None
def unlabelled(n=40): return pixels(n), labels(n - 1)
def negative(n=40): return pixels(n), labels(n) - 1
def uneven(n=40): return arrays(n), (pixels(8, (3, 9, 9)), labels(8))
def exits(): raise SystemExit(3)
def gaps(n=40): return pixels(n), labels(n) * 2
def last(n=40): return pixels(n).transpose(0, 2, 3, 1), labels(n)
def ragged(n=40): return [(pixels(1, (3, 9, 7 + (i == 5)))[0], 0) for i in range(n)]
'''
GOOD = ("arrays", "tensors", "items")
BAD = {
    "fails": r"own_data:fails failed: FileNotFoundError: the disk is not mounted \(.*own_data.py",
    "exits": r"own_data:exits failed: SystemExit: 3",
    "gaps": r"no image has the label 1, 3, 5\. Count classes from 0",
    "last": r"shape \(40, 9, 7, 3\) look like N x H x W x C",
    "floats": r"training set: images are float32 of shape \(40, 3, 9, 7\)\. Give uint8",
    "strange": r"returned a mapping with train, holdout: give train, and test",
    "nothing": r"training set is NoneType\. Give two arrays",
    "unlabelled": r"labels are int64 of shape \(39,\) for 40 images",
    "negative": r"labels go from -1 to 2, .* give labels from 0 to 2",
    "uneven": r"training images are 3x9x7, test images 3x9x9",
    "ragged": r"item 5 is uint8 of shape \(3, 9, 8\) while others are",
}


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("own_data", None)


def of(name, **more) -> DataFactory:
    return DataFactory(f"own_data:{name}", **more)


def images(splits) -> set[tuple[bytes, int]]:
    parts = [part for part in splits.parts if part is not None]
    return {
        (image.numpy().tobytes(), int(label))
        for part in parts
        for image, label in zip(part.images, part.labels, strict=True)
    }


@pytest.mark.parametrize("name", GOOD)
def test_arrays_tensors_and_items_are_the_same_set(own_data, name):
    splits = prepare(of(name, validation=0.25, test=0.25))
    assert [len(part) for part in splits.parts] == [20, 12, 8]
    assert splits.classes == (("n", "e", "s", "w") if name == "items" else ("0", "1", "2", "3"))
    assert (splits.num_channels, splits.image_size) == (3, (9, 7))
    expected = np.random.default_rng(0).integers(0, 256, (40, 3, 9, 7), dtype=np.uint8)
    assert images(splits) == {(each.tobytes(), n % 4) for n, each in enumerate(expected)}


@pytest.mark.parametrize("name", ["both", "mapping"])
def test_two_sets_are_training_and_test(own_data, name):
    splits = prepare(of(name, validation=0.25))
    assert [len(part) for part in splits.parts] == [28, 12, 8]
    assert splits.test.labels.tolist() == [0, 1, 2, 3] * 2


def test_images_without_channels_have_one(own_data):
    assert prepare(of("grey")).num_channels == 1


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_set_is_told(own_data, name):
    with pytest.raises(DataError, match=BAD[name]):
        prepare(of(name))


def test_what_cannot_be_called_is_told(own_data):
    with pytest.raises(ConfigError, match=r"there is no module no_data"):
        prepare(DataFactory("no_data:load"))
    with pytest.raises(ConfigError, match=r"has no 'array'\. Did you mean \"arrays\""):
        prepare(of("array"))
    with pytest.raises(ConfigError, match=r"trial\.data\.args: arrays.*unexpected .*'m'"):
        prepare(of("arrays", args={"m": 3}))
    with pytest.raises(ValueError, match=r'write "package\.module:function"'):
        DataFactory("own_data.arrays")


def test_other_arguments_and_other_code_are_another_set(own_data, tmp_path):
    from sqtune.factories import source_sha256

    first = prepared_path(of("arrays"), tmp_path)
    assert prepared_path(of("arrays", args={"n": 48}), tmp_path) != first
    assert prepared_path(of("arrays", args={}), tmp_path) == first
    (own_data / "own_data.py").write_text(MODULE + "\n# another\n")
    source_sha256.cache_clear()
    assert prepared_path(of("arrays"), tmp_path) != first


def test_it_is_named_in_a_configuration(own_data):
    text = '{"data": {"factory": "own_data:arrays", "args": {"n": 48}, "mirror": true}}'
    config = TrialConfig.model_validate_json(text)
    assert config.data == of("arrays", args={"n": 48}, mirror=True)
    assert hash(config) == hash(TrialConfig.model_validate_json(config.model_dump_json()))
    assert len(prepare(config.data).train) > 30


def test_mean_and_deviation_may_be_given(own_data):
    splits = prepare(of("grey", mean=(0.5,), std=(0.25,)))
    assert (splits.mean, splits.std) == ((0.5,), (0.25,))
    with pytest.raises(DataError, match="mean has 3 numbers, the images have 1"):
        prepare(of("grey", mean=(0.5,) * 3, std=(0.5,) * 3))
    with pytest.raises(ValueError, match="go together"):
        of("grey", mean=(0.5,))
    assert torch.equal(prepare(of("grey")).train.images, splits.train.images)
    assert Image.fromarray(splits.train.images[0, 0].numpy()).size == (7, 9)

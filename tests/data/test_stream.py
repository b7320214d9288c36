"""Streamed sets: the same images, batches and numbers as in memory, in little of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sqtune.config.trial import TrialConfig
from sqtune.data import ImageFolder, ImageNet
from sqtune.data.batches import training_batches
from sqtune.data.prepare import prepare, prepared_path
from sqtune.data.split import Split
from sqtune.data.stream import StreamedSplit
from sqtune.errors import DataError
from sqtune.train.loop import train

CPU = torch.device("cpu")


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fill(folder: Path, *, count=12, height=20, width=28, first=0, suffix="png") -> Path:
    for number, name in enumerate(("ä b", "c")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = Image.fromarray(pixels(first + 100 * number + index, height, width))
            image.save(folder / name / f"{index:02d}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    fill(root / "train")
    fill(root / "val", count=3, first=50)
    return root


def of(root: Path, **more) -> ImageNet:
    return ImageNet(str(root), image_size=16, resize=18, validation=0.25, **more)


def batches(split, seed=0, *, epochs=1, mirror=True):
    generator = torch.Generator().manual_seed(seed)
    options = {"crop_padding": 0, "mirror": mirror, "device": CPU, "generator": generator}
    return [
        (images, labels)
        for _ in range(epochs)
        for images, labels in training_batches(split, 4, **options)
    ]


def equal(one, other) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


def test_val_is_the_test_split_and_validation_comes_from_train(imagenet, tmp_path):
    splits = prepare(of(imagenet), tmp_path)
    assert [len(part) for part in splits.parts] == [18, 6, 6]
    assert all(isinstance(part, StreamedSplit) for part in splits.parts)
    assert (splits.classes, splits.image_size, splits.num_channels) == (("c", "ä b"), (16, 16), 3)
    assert splits.test.labels.tolist() == [0] * 3 + [1] * 3


def test_what_is_measured_is_the_centre_of_the_resized_image(imagenet):
    [(images, _)] = prepare(of(imagenet)).test.in_order(8, CPU)
    original = Image.fromarray(pixels(150, 20, 28))  # c/00: 20 x 28, resized to 18 x 25
    resized = np.asarray(original.resize((25, 18), Image.Resampling.BILINEAR))
    assert np.array_equal(images[0].numpy(), resized[1:17, 4:20].transpose(2, 0, 1))


def test_a_random_crop_is_a_window_of_the_resized_image(imagenet):
    splits = prepare(of(imagenet))
    windows = set()
    from torchvision.transforms import v2

    resize = v2.Resize(18)
    known = {}
    for index in range(12):
        for first, name in ((0, "ä b"), (100, "c")):
            whole = np.asarray(resize(Image.fromarray(pixels(first + index, 20, 28))))
            for top in range(whole.shape[0] - 15):
                for left in range(whole.shape[1] - 15):
                    window = whole[top : top + 16, left : left + 16].transpose(2, 0, 1)
                    known[window.tobytes()] = (name, index, top, left)
    for images, labels in batches(splits.train, epochs=4, mirror=False):
        for image, label in zip(images, labels, strict=True):
            name, index, top, left = known[image.numpy().tobytes()]
            assert splits.classes[label] == name
            windows.add((top, left))
    assert len(windows) > 15  # of 3 x 10


@pytest.mark.parametrize("crop", ["random", "random_resized"])
def test_workers_and_what_ran_before_do_not_matter(imagenet, crop):
    split = prepare(of(imagenet, crop=crop)).train
    alone = batches(split, epochs=2)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert equal(batches(split.with_workers(2), epochs=2), alone)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not equal(batches(split, seed=1), alone[: len(alone) // 2])
    assert not equal(alone[: len(alone) // 2], alone[len(alone) // 2 :])


def test_a_folder_gives_the_same_streamed_as_in_memory(tmp_path):
    root = fill(tmp_path / "images", count=30)
    text = json.dumps(
        {
            "data": {"name": "image_folder", "root": str(root), "image_size": 16},
            "network": {"name": "resnet8", "width": 4},
            "batch_size": 8,
            "num_epochs": 2,
        }
    )
    config = TrialConfig.model_validate_json(text)
    results = []
    for storage in ("memory", "stream"):
        data = ImageFolder(str(root), image_size=16, storage=storage)
        splits = prepare(data, tmp_path / "prepared")
        assert isinstance(splits.train, Split if storage == "memory" else StreamedSplit)
        found = list(train(config, splits=splits, num_threads=1))
        results.append([{**each.metrics(), "images_per_second": 0} for each in found])
    assert results[0] == results[1]


def test_the_prepared_file_has_names_instead_of_images(imagenet, tmp_path):
    data = of(imagenet)
    prepare(data, tmp_path)
    assert prepared_path(data, tmp_path).stat().st_size < 5_000
    again = prepare(data, tmp_path)
    assert again.fingerprint == prepare(data).fingerprint
    assert equal(batches(again.train), batches(prepare(data).train))
    assert again.mean == (0.485, 0.456, 0.406)


def test_another_view_or_normalisation_is_another_set(imagenet):
    data = of(imagenet)
    other = [
        ImageNet(data.root, image_size=16, resize=20, validation=0.25),
        of(imagenet, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        of(imagenet, split_seed=1),
    ]
    assert len({prepare(each).fingerprint for each in [data, *other]}) == 4


def test_mean_and_deviation_are_measured_where_none_are_given(imagenet):
    splits = prepare(of(imagenet, mean=None, std=None))
    images = splits.sampled(1 << 20).train.images.double() / 255
    expected = images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)
    assert splits.mean == pytest.approx(expected[0].tolist())
    assert splits.std == pytest.approx(expected[1].tolist())


def test_a_sample_is_spread_over_the_split(imagenet):
    splits = prepare(of(imagenet))
    few = splits.sampled(3 * 16 * 16 * 3)
    assert [len(part) for part in few.parts] == [3, 3, 3]
    assert few.test.labels.tolist() == [0, 0, 1]
    [(images, _)] = splits.test.in_order(8, CPU)
    assert torch.equal(few.test.images, images[[0, 2, 5]])


def test_a_file_that_cannot_be_read_is_named_or_left_out(tmp_path, caplog):
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "val", count=3)
    broken = root / "train" / "c" / "04.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{broken} cannot be read as an image"):
        batches(prepare(of(root)).train.with_workers(1), epochs=1)
    split = prepare(of(root, damaged="skip")).train
    found = batches(split)
    assert sum(len(labels) for _, labels in found) == 15  # one of 16
    assert "left out" in caplog.text
    assert str(broken) in caplog.text


def test_a_damaged_test_file_is_found_before_anything_trains(tmp_path, caplog):
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "val", count=3)
    broken = root / "val" / "c" / "01.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{broken} .* --set trial\.data\.damaged=skip"):
        prepare(of(root))
    prepare(of(root, damaged="skip"))
    assert str(broken) in caplog.text


def test_one_class_is_none_to_choose_from(tmp_path):
    fill(tmp_path)
    shutil.rmtree(tmp_path / "ä b")
    with pytest.raises(DataError, match=r"all images are of one class, c\. Give two or more"):
        prepare(ImageFolder(str(tmp_path), image_size=16))


def test_in_memory_damaged_files_are_left_out_if_asked(tmp_path, caplog):
    root = fill(tmp_path / "set")
    (root / "c" / "04.png").write_bytes(b"no image")
    data = {"root": str(root), "image_size": 16}
    with pytest.raises(DataError, match=r"04\.png .* trial\.data\.damaged=skip"):
        prepare(ImageFolder(**data))
    assert sum(map(len, prepare(ImageFolder(**data, damaged="skip")).parts)) == 23
    assert "1 of 24 images were left out" in caplog.text
    assert "04.png" in caplog.text


def test_layouts_that_are_not_imagenet_s_are_told(tmp_path):
    fill(tmp_path / "train")
    with pytest.raises(DataError, match=r"has no folder val\. ImageNet lies in"):
        prepare(of(tmp_path))
    fill(tmp_path / "val")
    (tmp_path / "val" / "c").rename(tmp_path / "val" / "d")
    with pytest.raises(DataError, match=r"train lacks d; .*val lacks c\. Each class"):
        prepare(of(tmp_path))
    (tmp_path / "train" / "e").mkdir()
    with pytest.raises(DataError, match=r"for the classes e.* Give each class a sub-folder with"):
        prepare(of(tmp_path))


def test_grey_images_are_told_from_colour(tmp_path):
    root = fill(tmp_path / "set")
    for file in root.rglob("*.png"):
        ImageOps.grayscale(Image.open(file)).save(file)
    with pytest.raises(DataError, match=r"are grey, and .* Give trial\.data\.channels=1"):
        prepare(ImageFolder(str(root), image_size=16))
    assert prepare(ImageFolder(str(root), image_size=16, channels=1)).num_channels == 1
    fill(tmp_path / "both" / "test")
    root.rename(tmp_path / "both" / "train")
    with pytest.raises(DataError, match="in train are grey, those in test are not"):
        prepare(ImageFolder(str(tmp_path / "both"), image_size=16))


def test_a_stream_needs_a_size():
    with pytest.raises(ValueError, match="storage: stream needs image_size"):
        ImageFolder("somewhere", storage="stream")


DATA = """
import resource, sys
from pathlib import Path
from sqtune.data import ImageFolder

half = (0.5, 0.5, 0.5)
data = ImageFolder(sys.argv[1], image_size=96, mean=half, std=half, storage="stream")
folder = Path(sys.argv[2])
def peaks():
    # Of this process (getrusage knows its parent's before exec), and of the largest child. Of this
    # one without pages of files: torch's libraries, which all processes share and which take up
    # to 400 MB more or less from one kernel to the next.
    lines = [line.split() for line in open("/proc/self/status")]
    size = {line[0]: int(line[1]) for line in lines if line[0] in ("VmHWM:", "RssFile:")}
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return [1024 * (size["VmHWM:"] - size["RssFile:"]), 1024 * children]
"""
PREPARE = """
from sqtune.data.prepare import prepare, prepared_path
prepare(data, folder)
print(prepared_path(data, folder), *peaks(), sep="\\n")
"""
STREAM = """
import torch
from sqtune.data.batches import training_batches
from sqtune.data.split import open_prepared

split = open_prepared(Path(sys.argv[3])).train.with_workers(1)
generator = torch.Generator().manual_seed(0)
options = {"crop_padding": 4, "mirror": True, "device": torch.device("cpu")}
count = 0
for images, labels in training_batches(split, 128, generator=generator, **options):
    assert images.shape == (128, 3, 96, 96)
    count += len(labels)
in_memory = split.nbytes
del split
print(count, in_memory, *peaks(), sep="\\n")
"""


def output(code: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-c", DATA + code, *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def test_fifty_thousand_jpegs_stream_in_less_than_a_gigabyte_a_process(tmp_path):
    root = tmp_path / "many"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for index in range(50):  # distinct ones; the others are hard links to them
            file = root / name / f"{index}.jpg"
            Image.fromarray(pixels(index, 64, 64)).save(file, quality=75)
            for copy in range(1, 500):
                os.link(file, root / name / f"{index}-{copy}.jpg")
    path, *preparing = output(PREPARE, root, tmp_path / "prepared")
    count, in_memory, *streaming = output(STREAM, root, tmp_path / "prepared", path)
    assert int(count) == 40_000 // 128 * 128
    assert int(in_memory) > 1 << 30
    assert max(map(int, [*preparing, *streaming])) < 1 << 30

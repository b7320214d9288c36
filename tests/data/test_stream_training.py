"""Trainings on streamed sets: stages, weights and exports, whatever the number of workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sqtune.config.training import Compute
from sqtune.config.trial import TrialConfig
from sqtune.data import ImageNet
from sqtune.data.prepare import prepare
from sqtune.deploy import export as exporting
from sqtune.deploy.export import Request, export
from sqtune.deploy.predict import find_images, open_classifier, predict
from sqtune.networks import ResNet
from sqtune.quant import Average
from sqtune.train.loop import StageSession, train
from sqtune.train.stage_store import StageStore


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 5)):
        for level, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(60 * level, 180 + 60 * level, (18, 22, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def config_of(root: Path, data_workers: int, **more) -> TrialConfig:
    fields = {"image_size": 16, "resize": 17, "validation": 0.25, **more}
    return TrialConfig(
        data=ImageNet(str(root), **fields),
        network=ResNet("resnet8", 2),
        schedule=Average(num_stages=2, warmup=0.5),
        batch_size=8,
        num_epochs=3,
        compute=Compute(data_workers=data_workers),
    )


def timeless(results) -> list:
    return [replace(result, images_per_second=0.0, restored=False) for result in results]


def test_a_training_goes_on_bit_for_bit_with_another_number_of_workers(root, tmp_path):
    alone = timeless(train(config_of(root, 0), num_threads=1, save_to=tmp_path / "alone"))
    place, again = tmp_path / "stages", tmp_path / "again"
    first = train(
        config_of(root, 0), num_threads=1, stages=StageSession(StageStore(place, 2**30), "a:1")
    )
    begun = [next(first)]
    first.close()  # killed after its first epoch
    session = StageSession(StageStore(place, 2**30), "a:2")
    rest = list(train(config_of(root, 2), num_threads=1, save_to=again, stages=session))
    assert [result.restored for result in rest] == [True, False, False]
    assert timeless(begun) == alone[:1]
    assert timeless(rest) == alone
    files = [folder / "weights.safetensors" for folder in (tmp_path / "alone", again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_set_is_exported_by_a_sample_and_predicted_as_it_was_measured(
    root, tmp_path, monkeypatch
):
    config = config_of(root, 0)
    network = tmp_path / "network"
    list(train(config, num_threads=1, save_to=network))
    image_bytes = 3 * 16 * 16
    splits = prepare(config.data)
    [(images, _)] = splits.test.in_order(16, torch.device("cpu"))
    files = find_images([root / "val"])
    monkeypatch.setattr(exporting, "MOST_BYTES", 4 * image_bytes)
    source = exporting.Source(study=None, trial=None, run_id=None, network=str(network))
    content = export(Request(network, None, tmp_path / "out", "onnx", "trained", source))
    assert content["errors"]["num_validation"] == content["errors"]["num_test"] == 4
    for folder in (network, tmp_path / "out"):
        classifier, seen = open_classifier(folder), []

        def run(pixels, run=classifier.run, seen=seen):
            seen.append(pixels)
            return run(pixels)

        found = list(predict(replace(classifier, run=run), files, 1, pytest.fail))
        assert len(found) == len(images) == 10
        assert np.array_equal(seen[0], images.numpy())

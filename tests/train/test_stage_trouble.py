"""Trouble with the stage store: training goes on, damaged stages are trained again."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from staged import GIB, WARM_UP
from staged import config as small_training

from sqtune.config import TrialConfig
from sqtune.errors import StoreError
from sqtune.quant import Binary, Float, LearnedUniform, Stages
from sqtune.train.loop import StageSession, train
from sqtune.train.stage_store import StageStore
from sqtune.train.stages import epoch_keys
from sqtune.train.tree import from_bytes, to_bytes


def config(**changes) -> TrialConfig:
    return small_training(**{"schedule": WARM_UP, **changes})


def figures(results) -> list:
    return [dataclasses.replace(r, images_per_second=0.0, restored=False) for r in results]


@pytest.fixture
def alone(digits) -> list:
    return figures(train(config(), splits=digits, num_threads=1))


def entry(folder: Path, digits, epoch: int) -> Path:
    keys = epoch_keys(config(), digits.fingerprint, num_threads=1)
    return folder / f"{keys[epoch - 1]}.stage"


def run(digits, folder: Path, owner: str = "study:1", max_size: int = GIB):
    stages = StageSession(StageStore(folder, max_size), owner)
    return list(train(config(), splits=digits, num_threads=1, stages=stages)), stages


@pytest.mark.parametrize("damaged", [(4,), (2,), (3, 4), (2, 3, 4)], ids=str)
def test_damaged_stages_are_trained_again(digits, tmp_path, alone, damaged):
    run(digits, tmp_path)
    for epoch in damaged:
        path = entry(tmp_path, digits, epoch)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    results, stages = run(digits, tmp_path, "study:2")
    assert figures(results) == alone
    assert stages.problem is None
    num_restored = max((epoch for epoch in (2, 3, 4) if epoch not in damaged), default=0)
    assert sum(result.restored for result in results) == num_restored
    assert [r.restored for r in run(digits, tmp_path, "study:3")[0]] == [True] * 4


def test_a_store_that_cannot_be_used_costs_no_training(digits, tmp_path, alone):
    (tmp_path / "stages").write_text("no folder")
    results, stages = run(digits, tmp_path / "stages")
    assert figures(results) == alone
    assert "stages in" in stages.problem


def test_a_store_that_is_too_small_costs_no_training(digits, tmp_path, alone):
    results, stages = run(digits, tmp_path / "stages", max_size=10_000)
    assert figures(results) == alone
    assert "larger than stages.max_size" in stages.problem
    assert list((tmp_path / "stages").iterdir()) == []


def test_a_full_disk_costs_no_training_and_leaves_nothing_half_written(tmp_path):
    """A real limit on the size of files, below that of a checkpoint, once the warm-up is stored."""
    code = textwrap.dedent(
        f"""
        import resource, signal
        from sqtune.config import TrialConfig
        from sqtune.networks import ResNet
        from sqtune.quant import Average
        from sqtune.train.loop import StageSession, train
        from sqtune.train.stage_store import StageStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        settings = TrialConfig(
            network=ResNet("resnet8", 2), batch_size=256, num_epochs=4,
            schedule=Average(num_stages=2, warmup=0.5),
        )
        stages = StageSession(StageStore({str(tmp_path)!r}, 2**30), "study:1")
        for result in train(settings, num_threads=1, stages=stages):
            if result.epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        print(result.epoch, result.final, stages.problem)
        """
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer.startswith("4 True the stages in ")
    assert "File too large" in answer
    assert [path.suffix for path in tmp_path.iterdir()] == [".stage"]


def test_what_was_trained_goes_on_where_it_cannot_be_stored_and_the_next_stage_is_busy(
    digits, tmp_path, alone
):
    store = StageStore(tmp_path / "stages", GIB)
    stages = StageSession(store, "study:1")
    keys = epoch_keys(config(), digits.fingerprint, num_threads=1)
    results = train(config(), splits=digits, num_threads=1, stages=stages)
    found = [next(results), next(results)]
    store.remove(keys[1])  # somebody made room
    assert store.claim(keys[2], "study:2")
    found += results
    assert figures(found) == alone
    assert store.holder(keys[2]) == "study:2"


def test_a_checkpoint_of_something_else_is_removed_with_an_error(digits, tmp_path):
    run(digits, tmp_path)
    store = StageStore(tmp_path, GIB)
    keys = epoch_keys(config(), digits.fingerprint, num_threads=1)
    content = from_bytes(store.get(keys[3]))
    del content["state"]["model"]["head.bias"]
    store.put(keys[3], to_bytes(content))
    with pytest.raises(StoreError, match=r"did not fit and was removed.*again goes on without"):
        run(digits, tmp_path)
    assert [r.restored for r in run(digits, tmp_path, "study:2")[0]] == [True, True, True, False]


def test_a_training_that_is_killed_anywhere_goes_on_from_its_last_epoch(digits, tmp_path, alone):
    code = textwrap.dedent(
        f"""
        from sqtune.config import TrialConfig
        from sqtune.networks import ResNet
        from sqtune.quant import Average
        from sqtune.train.loop import StageSession, train
        from sqtune.train.stage_store import StageStore
        settings = TrialConfig(
            network=ResNet("resnet8", 2), batch_size=256, num_epochs=4,
            schedule=Average(num_stages=2, warmup=0.5),
        )
        stages = StageSession(StageStore({str(tmp_path)!r}, 2**30), "study:1")
        for result in train(settings, num_threads=1, stages=stages):
            print(result.epoch, flush=True)
        """
    )
    for num_epochs in (1, 3):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as process:
            for epoch in range(1, num_epochs + 1):
                assert process.stdout.readline() == f"{epoch}\n"
            time.sleep(0.02 * num_epochs)  # somewhere in the next one
            os.kill(process.pid, signal.SIGKILL)
    results, stages = run(digits, tmp_path, "study:2")  # the dead one's claim is void
    assert figures(results) == alone
    assert [result.restored for result in results][:3] == [True] * 3
    assert stages.problem is None
    assert list(tmp_path.glob("*.claim")) == []


def test_with_no_room_for_all_the_newest_stages_stay(digits, tmp_path, alone):
    run(digits, tmp_path / "all")
    size = max(path.stat().st_size for path in (tmp_path / "all").iterdir())
    results, stages = run(digits, tmp_path / "few", max_size=size + 100)
    assert figures(results) == alone
    assert stages.problem is None
    assert entry(tmp_path / "few", digits, 4).exists()
    assert len(list((tmp_path / "few").iterdir())) == 1


@pytest.mark.parametrize(
    "quantizer", [Binary(), LearnedUniform(2), Float()], ids=["binary", "lsq", "float"]
)
def test_a_checkpoint_of_a_warm_up_says_nothing_of_the_quantizer(digits, tmp_path, quantizer):
    settings = config(quantizer=quantizer, activation_bits=4, schedule=Stages((0.0, 1.0)))
    store = StageStore(tmp_path, GIB)
    stages = StageSession(store, "study:1", keep=(2,))
    list(train(settings, splits=digits, num_threads=1, stages=stages))
    key = epoch_keys(settings, digits.fingerprint, num_threads=1)[1]
    content = from_bytes(store.get(key))
    assert content["state"]["quantization"] is content["state"]["teacher"] is None
    assert content["state"]["history"] == {"num_float": 2, "quantized": {}}
    assert content["owners"] == ["study:1", "study:1"]
    assert {each["val_error_hybrid"] > 0 for each in content["epochs"]} == {True}

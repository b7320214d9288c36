"""A leg of a trial, trained in this process."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sqtune.config import TrialConfig
from sqtune.data.prepare import prepare, prepared_path
from sqtune.networks import ResNet
from sqtune.search.worker import Assignment, Leg
from sqtune.store import Store


class Slow(MemoryFileSystem):
    """Takes its time to write."""

    protocol = ("slow",)
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).replace("slow://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **rest):
        time.sleep(0.3)
        return super().pipe_file(path, value, mode=mode, **rest)


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    config = TrialConfig(network=ResNet(name="resnet8", width=4), num_epochs=1)
    prepare(config.data, tmp_path / "data")
    return Assignment(
        number=0,
        config=config.model_dump_json(),
        store=str(tmp_path),
        data=f"data/{prepared_path(config.data, tmp_path / 'data').name}",
        save_to="networks/00000",
        num_threads=1,
        device="cpu",
        log="logs/00000.log",
        watchdog_seconds=600.0,
        stages=str(tmp_path / "stages"),
        stages_max_size=2**30,
        owner="study:0",
    )


def test_what_cannot_be_written_now_is_no_failure_and_is_written_later(assignment, tmp_path):
    in_the_way = tmp_path / "networks"
    in_the_way.write_text("no folder can be made here")
    leg = Leg(assignment)
    report = leg.advance()
    leg.close()
    assert "cannot be written" in report["unwritable"]
    assert not report.keys() & {"failure", "facts"}
    in_the_way.unlink()
    leg = Leg(assignment)
    report = leg.advance()
    leg.close()
    assert "facts" in report
    assert [path.name for path in in_the_way.iterdir()] == ["00000"]
    log = (tmp_path / assignment.log).read_text()
    assert "given back, as something cannot be written: " in log
    assert "\n    network: {" in log
    assert re.search(r"val_error \d+\.\d\d %", log)
    assert re.search(r" finished after \d+\.\d s on this process\n\Z", log)


def test_a_log_that_cannot_be_written_ends_no_trial(assignment, tmp_path):
    (tmp_path / "logs").write_text("no folder can be made here")
    leg = Leg(assignment)
    assert "facts" in leg.advance()
    leg.close()


def test_a_disk_that_is_full_under_the_log_ends_no_trial(assignment, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / assignment.log).symlink_to("/dev/full")
    leg = Leg(assignment)
    assert "facts" in leg.advance()
    leg.close()


def test_at_a_rung_and_at_the_end_others_find_what_was_trained(assignment, tmp_path, monkeypatch):
    fsspec.register_implementation("slow", Slow, clobber=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = f"slow://{tmp_path}/store"
    store = Store.at(place)
    store.create()
    config = TrialConfig.model_validate_json(assignment.config)
    config = config.model_copy(update={"num_epochs": 2})
    data = prepared_path(config.data, store.data)
    prepare(config.data, store.data)
    store.share(data)
    leg = Leg(
        replace(
            assignment,
            store=place,
            config=config.model_dump_json(),
            data=store.name(data),
            stages=f"{place}/stages",
            rungs=(1,),
        )
    )
    there = fsspec.filesystem("slow")
    assert not leg.advance()["done"]
    assert [name for name in there.find(f"{tmp_path}/store/stages") if name.endswith(".stage")]
    assert leg.advance()["done"]
    assert there.exists(f"{tmp_path}/store/networks/00000/network.json")
    assert not (store.root / "networks/00000").exists()  # this machine's copy is not needed
    leg.close()

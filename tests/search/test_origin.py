"""A worker of another version, or with another store, trains nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from sqtune.config import TrialConfig
from sqtune.search.origin import code_digest, leave_mark, problem, remove_mark
from sqtune.search.worker import Assignment, Leg
from sqtune.store import Store


@pytest.fixture
def origin(tmp_path):
    return asdict(leave_mark(Store.at(tmp_path / "store"), "a study"))


def test_the_driver_itself_suits(origin, tmp_path):
    assert problem(origin) is None
    assert [path.suffix for path in (tmp_path / "store" / "locks").iterdir()] == [".mark"]


@pytest.mark.parametrize("name", ["python", "torch", "sqtune's code"])
def test_a_version_that_differs_is_named_with_both(origin, name):
    here = origin["versions"][name]
    origin["versions"][name] = "0.0.1"
    found = problem(origin)
    assert f"{name} {here} (driver: 0.0.1)" in found
    assert found.count("(driver:") == 1


def test_a_store_that_is_not_there_or_is_another_one_is_named(origin, tmp_path, monkeypatch):
    mark = Path(origin["store"]) / "locks" / origin["mark"]
    mark.write_text("of somebody else")
    assert f"does not see the store {tmp_path / 'store'}" in problem(origin)
    monkeypatch.setattr("sqtune.search.origin.PAUSES", (0.0, 0.0))
    mark.unlink()
    assert "a_study-" in problem(origin)
    assert "is not there" in problem(origin)


def test_a_worker_that_does_not_suit_says_so_and_writes_nothing(origin, tmp_path):
    origin["versions"]["torch"] = "1.0"
    config = TrialConfig().model_dump_json()
    other = str(tmp_path / "other")
    leg = Leg(Assignment(3, config, other, "data", "n", 1, "cpu", "log", 1.0, origin=origin))
    report = leg.advance()
    assert report["done"]
    assert "torch" in report["unsuited"]
    leg.close()
    assert not Path(other).exists()


def test_a_mark_is_removed_by_whom_it_belongs_to(tmp_path):
    store = Store.at(tmp_path / "store")
    first, second = leave_mark(store, "study"), leave_mark(store, "study")
    remove_mark(first)
    assert problem(asdict(second)) is None
    remove_mark(second)
    assert not list((tmp_path / "store" / "locks").iterdir())


def test_the_digest_is_that_of_the_code():
    assert code_digest() == code_digest()
    assert len(code_digest()) == 12

"""One driver per study in a database, whatever becomes of drivers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import inspect

from sqtune.errors import StoreError
from sqtune.search import lease
from sqtune.search.database import open_database
from sqtune.search.lease import Lease, lease_of, leased, request_stop, seems_driven

HOLD = """
import sys, time
from sqtune.search import lease
from sqtune.search.database import open_database
lease.HEARTBEAT_SECONDS = 0.1
with lease.leased(open_database(sys.argv[1]).engine, "study", print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'studies.db'}"


@pytest.fixture
def engine(url, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "VOID_SECONDS", 1.5)
    engine = open_database(url).engine
    yield engine
    engine.dispose()


@pytest.fixture
def holder(url, engine):
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def silent(text: str) -> None:
    del text


def test_a_study_that_is_driven_is_refused_with_its_driver(engine, holder):
    assert seems_driven(engine, "study")
    with (
        pytest.raises(StoreError, match=f"driven by process {holder.pid} on .*--name"),
        leased(engine, "study", silent),
    ):
        pass
    with leased(engine, "another", silent):
        pass


def test_the_lease_of_a_killed_driver_of_this_host_is_taken_at_once(engine, holder):
    holder.kill()
    holder.wait()
    assert not seems_driven(engine, "study")
    said: list[str] = []
    with leased(engine, "study", said.append) as mine:
        assert said == []  # whoever waits says so
        assert seems_driven(engine, "study")
        assert not mine.lost
    assert lease_of(engine, "study") is None
    assert not seems_driven(engine, "study")


def of_another_host(engine, study: str) -> Lease:
    """Take a lease as a driver elsewhere does, which then falls silent."""
    other = Lease(engine, study)
    other._holder = json.dumps({"host": "elsewhere:boot:pids", "pid": 7, "started_at": "1"})
    other.take(silent)
    other._ended.set()
    return other


def test_one_from_elsewhere_is_waited_for_and_taken_once_it_stands_still(engine):
    of_another_host(engine, "study")
    time.sleep(0.3)
    said: list[str] = []
    with leased(engine, "study", said.append):
        pass
    assert "process 7 on elsewhere" in said[0]
    assert "sign of life" in said[0]


def test_whoever_lost_the_lease_notices_and_takes_nothing_away(engine):
    with leased(engine, "study", silent) as first:
        with engine.begin() as connection:  # as after five minutes of suspension
            connection.execute(lease._LEASES.update().values(holder="another", beats=0))
        deadline = time.monotonic() + 5
        while not first.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        assert first.lost
    assert lease_of(engine, "study")["holder"] == "another"


def test_one_that_was_silent_makes_sure_before_it_writes(engine, monkeypatch):
    with leased(engine, "study", silent) as first:
        first.confirm()
        first._ended.set()  # its thread stands still, as in a suspended machine
        time.sleep(0.2)
        with engine.begin() as connection:
            connection.execute(lease._LEASES.update().values(holder="another", beats=0))
        first.confirm()  # it counted just now
        first._beat_at -= 60
        with pytest.raises(StoreError, match="taken over"):
            first.confirm()


def test_looking_makes_no_table(engine):
    assert not seems_driven(engine, "study")
    assert "sqtune_leases" not in inspect(engine).get_table_names()


def test_stop_reaches_the_driver_and_not_the_next_one(engine):
    with leased(engine, "study", silent) as first:
        request_stop(engine, "study")
        deadline = time.monotonic() + 5
        while not first.is_stop_requested("study") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert first.is_stop_requested("study")
    with leased(engine, "study", silent) as second:
        time.sleep(0.3)
        assert not second.is_stop_requested("study")

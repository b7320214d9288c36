"""Where legs run in a real cluster, and what is said of nodes that come, go or are missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import RayCluster

from sqtune.config.options import Resources
from sqtune.errors import ResourceError
from sqtune.search.cluster import reach

from .conftest import command, run, written

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NO_CPUS = ("--num-cpus", "0")
A100 = ("--num-gpus", "1", "--resources", '{"accelerator_type:A100": 1}')


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Return a head without room for trials; each test brings its own nodes."""
    folder = Path(tempfile.mkdtemp(prefix="sq"))
    found = RayCluster(folder)
    try:
        found.add(more=NO_CPUS)
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def node_of(cluster):
    """Return a function that adds a node; they are killed at the test's end."""
    added = []

    def add(*more: str) -> subprocess.Popen[str]:
        added.append(cluster.add(more=more))
        return added[-1]

    yield add
    for node in added:
        if node.poll() is None:
            cluster.kill(node)


class Napping:
    """Legs that nap on a cluster until they are to end, and what is told of them."""

    def __init__(self, cluster: RayCluster, num_legs: int, folder: Path, **resources: Any):
        script, self._wake = Path(__file__).with_name("napping.py"), folder / "wake"
        asked = Resources(**resources).model_dump_json()
        self._process = subprocess.Popen(
            [sys.executable, script, cluster.address, str(num_legs), self._wake, asked],
            stdout=subprocess.PIPE,
            text=True,
            env=cluster.environ,
        )

    def until(self, key: str) -> list[dict[str, Any]]:
        """Return what is told until an event has a key; all, where there is none."""
        events: list[dict[str, Any]] = []
        for line in self._process.stdout:
            if line.startswith("{"):
                events.append(json.loads(line))
                if key in events[-1]:
                    break
        return events

    def end(self) -> list[dict[str, Any]]:
        self._wake.touch()
        events = self.until("nothing")
        assert self._process.wait(timeout=60) == 0
        return events

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def napping(cluster, tmp_path):
    """Return a function that starts legs; they are killed at the test's end."""
    started = []

    def start(num_legs: int, **resources: Any) -> Napping:
        started.append(Napping(cluster, num_legs, tmp_path, **resources))
        return started[-1]

    yield start
    for legs in started:
        legs.kill()


def test_a_node_that_goes_is_told_from_a_worker_that_dies(cluster, napping, node_of):
    first = node_of()
    legs = napping(1)
    os.kill(legs.until("process")[-1]["process"], 9)
    assert legs.until("death")[-1]["death"] == "worker"
    begun = legs.until("process")[-1]
    node_of()
    cluster.kill(first)
    assert legs.until("death")[-1]["death"] == "node"
    assert legs.until("process")[-1]["node"] != begun["node"]
    assert [event["ends"] for event in legs.end()] == [True]


def test_nodes_that_come_later_get_trials(napping, node_of):
    node_of()
    legs = napping(3)
    first = legs.until("process")[-1]
    node_of()
    second = legs.until("process")[-1]  # while the first one is still at it
    assert first["node"] != second["node"]
    assert sum(event["ends"] for event in legs.end()) == 3


def test_while_no_node_has_room_that_is_said_and_more_rarely_each_time(napping, node_of):
    begun = time.monotonic()
    legs = napping(1, gpus=0.5, accelerator_type="A100")
    first, second = legs.until("said")[-1], legs.until("said")[-1]
    asked = "1 CPU and 0.5 of a GPU (A100)"
    assert first["said"].startswith(f"waiting for a node with {asked}: there is none now (")
    minutes, seconds = second["said"].rpartition("(for ")[2].split()[0].split(":")
    assert 60 * int(minutes) + int(seconds) >= 2
    node_of()  # of another kind: no room there
    assert legs.until("said")[-1].keys() == {"said"}
    node_of(*A100)
    assert [event["ends"] for event in legs.end() if "ends" in event] == [False, True]
    assert time.monotonic() - begun > 3


def test_what_kind_of_gpu_nodes_have_is_known_before_anything_begins(cluster, node_of, monkeypatch):
    for name, value in cluster.environ.items():
        monkeypatch.setenv(name, value)

    def reached(wanted: int | None = None, **resources: Any) -> Any:
        return reach(cluster.address, Resources(**resources), wanted)

    deadline = time.monotonic() + 60
    while reached(1).cpus:  # nodes of other tests, whose end the head has not noticed
        assert time.monotonic() < deadline
    node_of()
    nothing = reached(gpus="auto")
    assert (nothing.resources, nothing.slots) == (Resources(), 1)
    assert nothing.note.endswith("has a GPU now, trials train on CPUs")
    with pytest.raises(ResourceError, match=r"has A100\. No node there has any\. Name one"):
        reached(gpus="auto", accelerator_type="A100")
    node_of(*A100)
    there = reached(gpus=0.5, accelerator_type="A100")
    assert (there.slots, there.note) == (1, None)  # it has one CPU
    assert reached(gpus="auto").resources.gpus == "auto"
    with pytest.raises(ResourceError, match=r'have: A100. Did you mean "A100"\?'):
        reached(gpus=1.0, accelerator_type="a100")
    with pytest.raises(ResourceError, match=r"Nodes there have: A100. .*--concurrent"):
        reached(gpus=1.0, accelerator_type="T4")
    assert reached(3, gpus=1.0, accelerator_type="T4").slots == 3  # an autoscaler's to bring up
    with pytest.raises(ResourceError, match="Ray knows no such kind"):
        reached(3, gpus=1.0, accelerator_type="abacus")
    with pytest.raises(ResourceError, match="2 CPUs and 1 GPUs of the kind A100"):
        reached(cpus=2.0, gpus=1.0, accelerator_type="A100")


SPACE = "name: small\ntrial: {network: {name: resnet8, width: 4}, num_epochs: 1}\n"


def test_auto_measures_where_the_gpu_is_and_says_what_went_wrong_there(cluster, node_of, tmp_path):
    node_of(*A100)  # as Ray is told; torch finds none
    space = written(tmp_path, SPACE + "resources: {gpus: auto}\nsearch: {num_trials: 1}\n")
    store = tmp_path / "store"
    answer = subprocess.run(
        command("search", "--space", space, "--store", store, "--address", cluster.address),
        capture_output=True,
        text=True,
        env=cluster.environ,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "measuring what the largest networks take" in answer.stdout
    assert "a GPU is there, but torch finds none there" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not json.loads(run("show", "--store", store, "--json").stdout)["trials"]
    assert not list((store / "locks").glob("*.mark*"))

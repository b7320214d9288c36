"""A search on a real Ray cluster of two nodes: the same table, whatever becomes of a node."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import RayCluster, free_port

from sqtune.config.options import Resources
from sqtune.errors import ClusterError, ResourceError
from sqtune.search import cluster as cluster_module
from sqtune.search.cluster import reach
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

from .conftest import command, no_failures, run, searched_table, table, written
from .test_search import mlflow_runs, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SPACE = """
name: small
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 16
  batch_size: 32
  schedule: {name: stages, ratios: [0.5, 1], starts: [0, 0.5]}
space:
  optimizer.lr: {choice: [0.05, 0.1]}
  quantizer.name: {choice: [binary, ternary]}
search: {num_trials: 4, sampler: grid}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("space"), SPACE)


@pytest.fixture(scope="module")
def undisturbed(space, tmp_path_factory):
    return searched_table(space, tmp_path_factory.mktemp("s") / "s")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    folder = Path(tempfile.mkdtemp(prefix="sq"))
    found = RayCluster(folder)
    try:
        found.add("env", f"XDG_CACHE_HOME={folder / 'cache0'}")
        found.add("env", f"XDG_CACHE_HOME={folder / 'cache1'}")
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


def begin(
    cluster: RayCluster, space: Path, store: Path | str, *more: object
) -> subprocess.Popen[str]:
    arguments = ("search", "--space", space, "--store", store, "--address", cluster.address, *more)
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=cluster.environ,
        start_new_session=True,
    )


def nodes_of(store: Path) -> set[str]:
    study = Study.load(open_storage(Store.at(store), None), "small")
    return {trial.facts["node_id"] for trial in study.trials()}


def trained_epochs(store: Path) -> Counter[tuple[str, str]]:
    """Return how often workers trained each epoch of each trial; taking up takes no time."""
    lines = [
        (log.stem, *line.split()[2:6])
        for log in (store / "logs").rglob("*.log")
        for line in log.read_text().splitlines()
        if " epoch " in line
    ]
    return Counter((trial, epoch) for trial, _, epoch, _, seconds in lines if float(seconds) > 0.05)


def check(store: Path, undisturbed: object) -> None:
    assert no_failures(store) == undisturbed
    _, _, children = mlflow_runs(store)
    assert sorted(children) == [0, 1, 2, 3]
    assert {child.info.status for child in children.values()} == {"FINISHED"}


def test_all_nodes_train_and_the_table_is_that_of_one_machine(
    cluster, space, undisturbed, tmp_path
):
    store = tmp_path / "store"
    driver = begin(cluster, space, store)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    assert "4 trials to go, 2 at once" in output
    check(store, undisturbed)
    assert len(nodes_of(store)) == 2
    assert not list((store / "locks").glob("*.mark*"))


def test_under_a_url_every_machine_gets_what_others_wrote(
    cluster, space, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store, storage = f"local://{tmp_path}/there", f"sqlite:///{tmp_path}/study.db"
    tracking = ("--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    at = ("--store", store, "--study-storage", storage)
    driver = begin(cluster, space, store, *at[2:], *tracking)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    assert table(run("show", *at, "--json")) == undisturbed
    shared = {path.name for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert {"weights.safetensors", "codes.safetensors", "network.json", "00003.log"} <= shared
    assert not {name for name in shared if "mark" in name or "claim" in name}
    for number in (0, 1):
        [mirror] = (cluster.folder / f"cache{number}" / "sqtune").iterdir()
        assert {path.parent.name for path in mirror.rglob("*.safetensors")} == {"data"}
    best = json.loads(run("best", *at, "--json").stdout)
    assert (Path(best["network"]) / "weights.safetensors").is_file()
    client, _, children = mlflow_runs(tmp_path)
    for child in children.values():
        files = client.list_artifacts(child.info.run_id, "network")
        assert "network/codes.safetensors" in {file.path for file in files}


def test_a_node_that_is_killed_costs_its_epoch_and_no_trial(cluster, space, undisturbed, tmp_path):
    store = tmp_path / "store"
    node = cluster.add()
    driver = begin(cluster, space, store)
    wait_for(store, lambda trials: sum(len(trial.epochs) >= 2 for trial in trials) >= 3)
    cluster.kill(node)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    check(store, undisturbed)
    again = [max(0, times - 1) for times in trained_epochs(store).values()]
    assert sum(again) <= 1
    legs = [log.read_text().count("on process") for log in (store / "logs").rglob("*.log")]
    assert sorted(legs) == [1, 1, 1, 2], "nobody's worker was killed"


def test_a_node_that_does_not_see_the_store_is_named_before_the_first_trial(
    cluster, space, tmp_path
):
    store = tmp_path / "shared" / "store"
    store.mkdir(parents=True)
    hide = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {store.parent} && "$@"', "sh")
    probe = ("unshare", "--mount", "mount", "-t", "tmpfs", "none", str(store.parent))
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody hide a folder")
    node = cluster.add(*hide)
    try:
        driver = begin(cluster, space, store)
        output, _ = driver.communicate(timeout=100)
        assert driver.returncode == 2, output
        assert "error: node " in output
        assert f"does not see the store {store}" in output
        assert "--store" in output
        assert not json.loads(run("show", "--store", store, "--json").stdout)["trials"]
    finally:
        cluster.kill(node)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RAY_AUTH_TOKEN_PATH": "bad"}, "does not let us in"),
        ({"RAY_AUTH_TOKEN_PATH": "none"}, "no token was found"),
        ({"RAY_AUTH_MODE": "disabled"}, "does not let us in"),
    ],
)
def test_nobody_gets_in_without_the_token(cluster, tmp_path, monkeypatch, change, said):
    (tmp_path / "bad").write_text("0123456789abcdef" * 4)
    monkeypatch.chdir(tmp_path)
    for name, value in {**cluster.environ, **change}.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=said):
        reach(cluster.address, Resources(), None)
    assert time.monotonic() - begun < 60


def test_what_a_trial_asks_for_and_no_node_has_is_said(cluster, monkeypatch):
    for name, value in cluster.environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ResourceError, match=r"--concurrent N"):
        reach(cluster.address, Resources(cpus=4), None)
    assert reach(cluster.address, Resources(cpus=4), 3).slots == 3  # an autoscaler's to bring up
    assert reach(cluster.address, Resources(), None).slots >= 2


def test_what_a_cluster_has_is_printed_for_scripts(cluster):
    answer = subprocess.run(
        [sys.executable, "-m", "sqtune.search.nodes", cluster.address],
        capture_output=True,
        text=True,
        env=cluster.environ,
        check=True,
        timeout=60,
    )
    nodes = json.loads(answer.stdout)["nodes"]
    assert len(nodes) >= 2
    assert {node["cpus"] for node in nodes} == {1.0}


def test_an_address_where_nothing_listens_is_refused_at_once():
    begun = time.monotonic()
    with pytest.raises(ClusterError, match="nothing answers there"):
        reach(f"127.0.0.1:{free_port()}", Resources(), None)
    assert time.monotonic() - begun < 30


def test_a_head_that_goes_away_is_told_once(monkeypatch):
    monkeypatch.setattr(cluster_module, "WATCH_SECONDS", 0.05)
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with cluster_module.watched(address, said.append):
            time.sleep(0.5)
            assert not said
            head.close()
            time.sleep(1)
    assert len(said) == 1
    assert f"{address} does not answer" in said[0]
    assert "the same command goes on" in said[0]


@pytest.mark.parametrize("address", ["nonsense", "host:", ":6379", "host:99999", "ray://host:1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ClusterError, match="HOST:PORT"):
        reach(address, Resources(), None)


def test_the_environment_names_the_address_too(space, tmp_path):
    answer = subprocess.run(
        command("search", "--space", space, "--store", tmp_path / "store"),
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_ADDRESS": f"127.0.0.1:{free_port()}"},
        check=False,
        timeout=60,
    )
    assert answer.returncode == 2
    assert "nothing answers there" in answer.stderr
    assert not (tmp_path / "store").exists()

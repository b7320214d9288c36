"""A search sent to a cluster as a job: followed, left alone, refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import RayCluster, free_port
from search.conftest import command, run

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        importlib.util.find_spec("opencensus") is None, reason="the head needs ray[default]"
    ),
]

SPACE = """
name: small
trial: {num_epochs: 4, batch_size: 32, network: {factory: "mynets:build"}}
space: {optimizer.lr: {choice: [0.05, 0.1]}}
search: {num_trials: 2, sampler: grid}
"""
NETS = """
from torch import nn
def build(in_channels, num_classes, image_size):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(8 * 36, num_classes))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    folder = Path(tempfile.mkdtemp(prefix="sq"))
    found = RayCluster(folder, dashboard_port=free_port())
    try:
        found.add()
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def code(tmp_path) -> Path:
    """Return a folder with a space and the network that it names."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "small.yaml").write_text(SPACE)
    (folder / "mynets.py").write_text(NETS)
    return folder


def submit(cluster: RayCluster, code: Path, store: Path, *more: object) -> subprocess.Popen[str]:
    address = ("--address", f"http://127.0.0.1:{cluster.dashboard_port}", "--working-dir", code)
    return subprocess.Popen(
        command("submit", "--space", code / "small.yaml", *address, "--store", store, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environ,
        cwd=code,
        start_new_session=True,
    )


def trials_of(store: Path) -> list[dict[str, Any]]:
    answer = run("show", "--store", store, "--json")
    trials: list[dict[str, Any]] = json.loads(answer.stdout or '{"trials": []}')["trials"]
    return trials


def states_of(store: Path) -> list[str]:
    return [trial["state"] for trial in trials_of(store)]


def until(store: Path, reached: Callable[[list[str]], bool]) -> None:
    """Wait until the study's trials are so far."""
    deadline = time.monotonic() + 150
    while not reached(states := states_of(store)):
        assert time.monotonic() < deadline, states
        time.sleep(0.5)


def test_a_search_with_code_of_ones_own_runs_as_a_job_and_is_followed(cluster, code, tmp_path):
    store = tmp_path / "store"
    output, errors = submit(cluster, code, store, "--set", "trial.num_epochs=2").communicate()
    assert "trials    2 finished" in output, output + errors
    assert "submitted sqtune-" in errors
    assert states_of(store) == ["finished"] * 2


def test_ctrl_c_leaves_it_running(cluster, code, tmp_path):
    store = tmp_path / "store"
    sent = submit(cluster, code, store, "--set", "trial.num_epochs=2000")
    until(store, lambda states: "running" in states)
    os.kill(sent.pid, signal.SIGINT)
    output, errors = sent.communicate(timeout=60)
    assert sent.returncode == 0
    assert "the search goes on" in errors, output
    before = sum(trial["epochs_done"] for trial in trials_of(store))
    until(store, lambda _: sum(trial["epochs_done"] for trial in trials_of(store)) > before)
    assert run("stop", "--store", store, "--wait").returncode == 0


def test_no_wait_returns_and_show_and_stop_reach_the_job(cluster, code, tmp_path):
    store = tmp_path / "store"
    sent = submit(cluster, code, store, "--no-wait", "--set", "trial.num_epochs=400")
    _, errors = sent.communicate(timeout=60)
    assert sent.returncode == 0, errors
    until(store, lambda states: "running" in states)
    assert run("stop", "--store", store, "--wait").returncode == 0
    assert "interrupted" in states_of(store)


def test_a_search_that_fails_fails_the_command(cluster, code, tmp_path):
    (code / "mynets.py").write_text("def build(**_): raise RuntimeError('broken')")
    output, _ = (sent := submit(cluster, code, tmp_path / "store")).communicate(timeout=60)
    assert sent.returncode == 1
    assert "broken" in output


def test_a_wrong_token_is_refused(cluster, code, tmp_path, monkeypatch):
    wrong = tmp_path / "token"
    wrong.write_text("0123456789abcdef" * 4)
    monkeypatch.setattr(
        RayCluster, "environ", {**cluster.environ, "RAY_AUTH_TOKEN_PATH": str(wrong)}
    )
    sent = submit(cluster, code, tmp_path / "store")
    _, errors = sent.communicate(timeout=60)
    assert sent.returncode == 2
    assert "does not let us in" in errors

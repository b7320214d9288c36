"""The crash matrix with real processes: whatever happens, the table is the undisturbed run's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from .conftest import no_failures, run, searched_table, start, table, written
from .test_search import leftovers, mlflow_runs, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SPACE = """
name: small
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 16
  batch_size: 32
  schedule: {name: exponential, warmup: 0.25}
space:
  optimizer.lr: {choice: [0.05, 0.1, 0.2]}
  quantizer.name: {choice: [binary, ternary]}
search: {num_trials: 3, sampler: grid}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("space"), SPACE)


@pytest.fixture(scope="module")
def undisturbed(space, tmp_path_factory):
    return searched_table(space, tmp_path_factory.mktemp("s") / "s")


def begin(space: Path, store: Path, *more: object) -> subprocess.Popen[str]:
    return start("search", "--space", space, "--store", store, *more)


def workers(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that train for a driver."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if "TrialActor" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def finish(space: Path, store: Path, undisturbed: object) -> None:
    """Give the same command again; check that nothing is lost, doubled or different."""
    answer = run("search", "--space", space, "--store", store, "--json")
    assert answer.returncode == 0, answer.stderr
    check(store, undisturbed)


def check(store: Path, undisturbed: object) -> None:
    """Check that a study that has ended lost, doubled and changed nothing."""
    assert no_failures(store) == undisturbed
    _, _, children = mlflow_runs(store)
    assert sorted(children) == [0, 1, 2]
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    assert not leftovers(store)


def some_epochs(number: int):
    return lambda trials: any(len(trial.epochs) >= number for trial in trials)


def test_killed_workers_are_replaced_and_go_on_from_the_last_epoch(space, undisturbed, tmp_path):
    store = tmp_path / "store"
    driver = begin(space, store)
    for epochs in (2, 7):  # in the shared float warm-up, and behind it
        wait_for(store, some_epochs(epochs))
        for worker in workers(driver):
            worker.kill()
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    check(store, undisturbed)


@pytest.mark.long
def test_a_worker_killed_while_it_writes_a_checkpoint_leaves_no_half_file(
    space, undisturbed, tmp_path
):
    store = tmp_path / "store"
    driver = begin(space, store)
    wait_for(store, some_epochs(2))
    deadline, killed = time.monotonic() + 60, 0
    while killed < 2 and time.monotonic() < deadline and driver.poll() is None:
        if any(path.suffix != ".stage" for path in (store / "stages").rglob("*") if path.is_file()):
            for worker in workers(driver)[:1]:
                worker.kill()
                killed += 1
            time.sleep(2)
    assert killed
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    check(store, undisturbed)


@pytest.mark.long
def test_a_driver_that_is_terminated_is_continued(space, undisturbed, tmp_path):
    store = tmp_path / "store"
    driver = begin(space, store)
    wait_for(store, some_epochs(7))
    driver.terminate()
    output, _ = driver.communicate(timeout=100)
    assert driver.returncode == 130, output
    finish(space, store, undisturbed)


@pytest.mark.long
def test_a_driver_killed_while_it_reports_the_end_is_continued(space, undisturbed, tmp_path):
    store = tmp_path / "store"
    driver = begin(space, store)
    wait_for(store, lambda trials: sum(trial.state == "finished" for trial in trials) == 3)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=100)
    finish(space, store, undisturbed)


@pytest.mark.long
def test_damaged_stages_are_found_out_and_trained_again(space, undisturbed, tmp_path):
    store = tmp_path / "store"
    driver = begin(space, store)
    wait_for(store, some_epochs(7))
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=100)
    time.sleep(1)  # for its workers to go
    damaged = 0
    for path in (store / "stages").rglob("*.stage"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        damaged += 1
    assert damaged
    finish(space, store, undisturbed)


@pytest.mark.long
def test_a_full_disk_under_the_stages_costs_nothing_but_sharing(space, undisturbed, tmp_path):
    small = tmp_path / "small-disk"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        store = tmp_path / "store"
        more = ("--set", f"stages.url={small}")
        answer = run("search", "--space", space, "--store", store, "--json", *more)
        assert answer.returncode == 0, answer.stderr
        assert table(answer) == undisturbed
        assert "No space left" in json.dumps(json.loads(answer.stdout))
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.long
def test_stop_lets_the_epoch_end_and_the_same_command_goes_on(space, undisturbed, tmp_path):
    store = tmp_path / "store"
    driver = begin(space, store)
    wait_for(store, some_epochs(3))
    answer = run("stop", "--store", store, "--wait")
    assert answer.returncode == 0, answer.stderr
    output, _ = driver.communicate(timeout=120)
    assert "sqtune stop" in output
    states = [
        trial["state"]
        for trial in json.loads(run("show", "--store", store, "--json").stdout)["trials"]
    ]
    assert "interrupted" in states
    assert run("stop", "--store", store).returncode == 2  # it runs no more
    finish(space, store, undisturbed)

"""A node is killed, cut off, slow or full: the same table, and at most one epoch of each trial."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from .netcluster import NetCluster, workers
from .netns import Host

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SECONDS = 300  # for a search whose cluster is broken


def all_train(trials) -> bool:
    return sum(len(trial.epochs) >= 2 for trial in trials) >= 3


def test_a_killed_node_costs_its_epoch(net, net_space, undisturbed, tmp_path):
    store = tmp_path / "killed"
    driver = net.search(net_space, store)
    net.wait_for(store.name, all_train)
    net.kill(net.hosts[2])
    output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(store, undisturbed, trained_again=1)


@pytest.mark.parametrize("seconds", [30, None], ids=["for_30_s", "for_good"])
def test_a_node_that_is_cut_off_costs_its_epoch(net, net_space, undisturbed, tmp_path, seconds):
    store = tmp_path / f"cut_{seconds}"
    driver = net.search(net_space, store)
    net.wait_for(store.name, all_train)
    net.hosts[2].plug(in_=False)
    if seconds is not None:
        time.sleep(seconds)
        net.hosts[2].plug(in_=True)
    output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(store, undisturbed, trained_again=1)


def test_after_a_killed_head_the_same_command_goes_on(net, net_space, undisturbed, tmp_path):
    store = tmp_path / "head"
    driver = net.search(net_space, store)
    net.wait_for(store.name, all_train)
    net.kill(net.hosts[0])
    begun = time.monotonic()
    output, _ = driver.communicate(timeout=SECONDS)
    print(output)
    assert driver.returncode != 0
    assert time.monotonic() - begun < 100
    assert "the same command" in output, output
    net.mend()
    output, _ = (driver := net.search(net_space, store)).communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(store, undisturbed, trained_again=3)


def test_a_slow_node_holds_up_nobody_else(net, net_space, undisturbed, tmp_path):
    store = tmp_path / "slow"
    driver = net.search(net_space, store)
    net.wait_for(store.name, all_train)
    with slowed(net.hosts[2]):
        output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(store, undisturbed)
    by_host = {host.address: 0 for host in net.hosts}
    for trial in net.trials(store.name):
        by_host[trial.facts["node"]] += 1
    assert by_host[net.hosts[2].address] == 1, by_host


@contextmanager
def slowed(host: Host) -> Iterator[None]:
    """Let a host's workers run a tenth of the time."""
    ended = threading.Event()

    def hold_back() -> None:
        while not ended.wait(0.1):
            send(signal.SIGSTOP)
            ended.wait(0.9)
            send(signal.SIGCONT)

    def send(number: signal.Signals) -> None:
        for process in workers(host):
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    thread = threading.Thread(target=hold_back)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_node_with_a_full_disk(net, net_space, undisturbed, tmp_path):
    store = tmp_path / "full"
    host = net.hosts[2]
    net.kill(host)
    net.start(host, disk_size="16m")
    fill(net, host)
    output, _ = (driver := net.search(net_space, store)).communicate(timeout=SECONDS)
    print(output)
    assert driver.returncode == 0, output
    net.check(store, undisturbed)


def fill(net: NetCluster, host: Host) -> None:
    """Write a host's disk full."""
    folder = net.disk(host)
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

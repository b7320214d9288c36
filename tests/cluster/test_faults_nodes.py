"""A node is killed, cut off, slow or full: the same table, and at most one epoch of each trial."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .netcluster import NetCluster, all_train, held
from .netns import Host

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SECONDS = 300  # for a search whose cluster is broken


def test_a_killed_node_costs_its_epoch(net, net_space, undisturbed):
    name = "killed"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    net.kill(net.hosts[2])
    output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(name, undisturbed, trained_again=1)


@pytest.mark.parametrize("seconds", [30, None], ids=["for_30_s", "for_good"])
def test_a_node_that_is_cut_off_costs_its_epoch(net, net_space, undisturbed, seconds):
    name = f"cut_{seconds}"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    net.hosts[2].plug(in_=False)
    cut_at = float(int(time.time()))  # as exact as the logs
    if seconds is not None:
        time.sleep(seconds)
        net.hosts[2].plug(in_=True)
    output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(name, undisturbed, trained_again=1, before=cut_at)


def test_after_a_killed_head_the_same_command_goes_on(net, net_space, undisturbed):
    name = "head"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    net.kill(net.hosts[0])
    begun = time.monotonic()
    output, _ = driver.communicate(timeout=SECONDS)
    print(output)
    assert driver.returncode != 0
    assert time.monotonic() - begun < 100
    assert "the same command" in output, output
    net.mend()
    output, _ = (driver := net.search(net_space, name)).communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(name, undisturbed, trained_again=3)


def test_a_slow_node_holds_up_nobody_else(net, net_space, undisturbed):
    name = "slow"
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    with slowed(net.hosts[2]):
        output, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0, output
    net.check(name, undisturbed)
    trials = net.trials(name)
    slow = [trial for trial in trials if trial.facts["node"] == net.hosts[2].address]
    assert len(slow) <= 2
    last = max(trials, key=lambda trial: trial.facts["ended_at"])
    assert last in slow, "nobody was slow"


@contextmanager
def slowed(host: Host) -> Iterator[None]:
    """Let a host's workers run a tenth of the time."""
    ended, counts = threading.Event(), [0]

    def hold_back() -> None:
        while not ended.wait(0.1):
            with held([host]) as count:
                counts.append(count)
                ended.wait(0.9)

    thread = threading.Thread(target=hold_back)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert sum(counts) > 10, "nobody was held back"


def test_a_node_with_a_full_disk_is_named_before_the_first_trial(net, net_space):
    name, host = "full", net.hosts[2]
    fill(net, host)
    try:
        output, _ = (driver := net.search(net_space, name)).communicate(timeout=SECONDS)
        assert driver.returncode == 2, output
        assert re.search(rf"error: node {host.address} .* could not be asked.*\bdisk\b", output)
        assert not net.trials(name)
    finally:
        net.kill(host)


def test_a_disk_that_fills_up_costs_nothing(net, net_space, undisturbed):
    name, host = "filling", net.hosts[2]
    driver = net.search(net_space, name)
    net.wait_for(name, all_train)
    fill(net, host)
    try:
        output, _ = driver.communicate(timeout=SECONDS)
        print(output)
        assert driver.returncode == 0, output
        net.check(name, undisturbed, trained_again=1)
    finally:
        net.kill(host)


def fill(net: NetCluster, host: Host) -> None:
    """Write a host's disk full."""
    folder = net.disk(host)
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

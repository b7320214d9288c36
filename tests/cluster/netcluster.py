"""A whole cluster on one machine: nodes with addresses and disks of their own, and its servers."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from ray_cluster import RayCluster
from search.conftest import command, run, table
from tracking.conftest import recorded, steps

from sqtune.errors import StudyError
from sqtune.search.database import PatientStorage
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_named
from sqtune.search.study import Study

from .netns import Host, Network
from .services import BUCKET, ObjectStore, Postgres, postgres_programs, tracking_server

NUM_NODES = 3
NUM_EPOCHS = 16
SPACE = f"""
name: small
trial:
  network: {{name: resnet8, width: 4}}
  num_epochs: {NUM_EPOCHS}
  batch_size: 32
  schedule: {{name: stages, ratios: [0.5, 1], starts: [0, 0.5]}}
space:
  optimizer.lr: {{choice: [0.02, 0.05, 0.1]}}
  quantizer.name: {{choice: [binary, ternary]}}
search: {{num_trials: 6, sampler: grid}}
"""
Table = list[tuple[object, ...]]


def missing() -> str | None:
    """Return what this machine lacks for such a cluster; None if it has all."""
    if os.geteuid():
        return "network namespaces need root"
    for program in ("ip", "nsenter", "runuser"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    if postgres_programs() is None:
        return "there is no PostgreSQL in /usr/lib/postgresql"
    for package in ("psycopg", "s3fs", "boto3", "moto"):
        if importlib.util.find_spec(package) is None:
            return f"there is no {package} (make test-cluster installs it)"
    return None


class NetCluster:
    """Three Ray nodes of one CPU, PostgreSQL, MLflow's server and an S3 server.

    Attributes:
        hosts: Where the nodes run; the first is the head's.
        nodes: Those that run, by host.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o711)
        self.network = Network()
        address = self.network.address
        self.hosts = [self.network.host() for _ in range(NUM_NODES)]
        self.objects = ObjectStore(folder, address)
        self.postgres = Postgres(folder, address)
        mirror = {"XDG_CACHE_HOME": str(folder / "driver")}
        self.environ = {**self.postgres.environ, **self.objects.client_environ, **mirror}
        self.tracking = tracking_server(
            folder, address, self.postgres.url("tracking"), self.environ
        )
        self.ray = RayCluster(folder, host=self.hosts[0].address, more_environ=self.environ)
        self.nodes: dict[Host, subprocess.Popen[str]] = {}
        self._drivers: list[subprocess.Popen[str]] = []
        self._storage: PatientStorage | None = None

    def mend(self) -> None:
        """End searches that a test has left, start all that does not run, plug everything in."""
        self._end_drivers()
        for server in (self.objects, self.tracking):
            if server.process is None:
                server.start()
        for host in self.hosts:
            host.plug(in_=True)
            if host in self.nodes and self.nodes[host].poll() is not None:
                self.kill(host)
        if self.hosts[0] not in self.nodes:  # a new head knows nobody
            for host in list(self.nodes):
                self.kill(host)
            self.ray.nodes.clear()
        for host in self.hosts:
            if host not in self.nodes:
                self.start(host)

    def start(self, host: Host, disk_size: str = "256m") -> None:
        """Start a node, with a disk of its own for Ray's files."""
        before = host.command(self.folder / "ray", disk_size)
        mirror = ("env", f"XDG_CACHE_HOME={self.folder / host.address}")
        self.nodes[host] = self.ray.add(*before, *mirror, more=["--node-ip-address", host.address])

    def kill(self, host: Host) -> None:
        """Kill all processes of a node but drivers."""
        node = self.nodes.pop(host)
        if node.poll() is None:
            self.ray.kill(node)

    def disk(self, host: Host) -> Path:
        """Return the root of a running node's own disk, as seen from here."""
        inside = Path(f"/proc/{self.nodes[host].pid}/root")
        return inside / (self.folder / "ray").relative_to("/")

    def search(self, space: Path, name: str, *more: object) -> subprocess.Popen[str]:
        """Start a search on the head's host; its store lies in S3."""
        head = self.nodes[self.hosts[0]].pid
        inside = ["nsenter", f"--target={head}", "--net", "--mount"]
        places = (*self.places(name), "--tracking-uri", self.tracking.url)
        arguments = [
            *("search", "--space", space, "--name", name, *places),
            *("--address", self.ray.address, *more),
        ]
        driver = subprocess.Popen(
            [*inside, *command(*arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.ray.environ,
            start_new_session=True,
        )
        self._drivers.append(driver)
        return driver

    def places(self, name: str) -> tuple[str, ...]:
        """Return the options that name a study's store and storage."""
        storage = self.postgres.url("study")
        return ("--store", f"s3://{BUCKET}/{name}", "--study-storage", storage)

    def _end_drivers(self) -> None:
        for driver in self._drivers:
            driver.kill()
            driver.communicate()
        self._drivers.clear()

    def trials(self, name: str) -> list[TrialRecord]:
        """Return a study's trials; none if there is no such study yet."""
        if self._storage is None:
            self._storage = open_named(self.postgres.url("study"))
        try:
            return Study.load(self._storage, name).trials()
        except StudyError:
            return []

    def wait_for(self, name: str, reached: Callable[[list[TrialRecord]], bool]) -> None:
        """Wait until the trials of the study that is being searched are so far."""
        deadline, driver = time.monotonic() + 240, self._drivers[-1]
        while not reached(trials := self.trials(name)):
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline, trials
            time.sleep(0.2)

    def check(
        self, name: str, undisturbed: Table, *, trained_again: int = 0, before: float = math.inf
    ) -> None:
        """Check that a search's table is complete and right, and how many epochs were lost.

        What a node trains after it was cut off (`before`, seconds since 1970) is lost by nature.
        """
        shown = run("show", name, *self.places(name), "--json")
        assert table(shown) == undisturbed
        trials = self.trials(name)
        assert not [trial.failure for trial in trials if trial.failure]
        parent, children = recorded(self.tracking.url, name)
        assert parent.info.status == "FINISHED"
        assert sorted(children) == list(range(len(undisturbed)))
        for child in children.values():
            assert child.info.status == "FINISHED"
            epochs = list(range(1, NUM_EPOCHS + 1))
            assert steps(self.tracking.url, child, "train_loss") == epochs
        again = self._epochs_trained_again(name, before)
        assert sum(again.values()) <= trained_again, again

    def _epochs_trained_again(self, name: str, before: float) -> dict[tuple[str, int], int]:
        """Return, by trial and epoch trained before a time, how often it was trained again.

        An epoch that is taken up from the store is logged with the speed of its training. Logs are
        read where they were written, in the nodes' mirrors.
        """
        speeds: dict[tuple[str, int], set[str]] = defaultdict(set)
        first: dict[tuple[str, int], float] = defaultdict(lambda: math.inf)
        logs = list(self.folder.glob(f"*/sqtune/*/logs/{name}/*.log"))
        assert logs
        for log in logs:
            for line in log.read_text().splitlines():
                if found := re.search(r"(.+) epoch (\d+) .*images_per_second (\S+)", line):
                    key = log.stem, int(found[2])
                    speeds[key].add(found[3])
                    logged_at = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S"))
                    first[key] = min(first[key], logged_at)
        counted = {key for key, logged_at in first.items() if logged_at < before}
        return {key: len(speeds[key]) - 1 for key in counted if len(speeds[key]) > 1}

    def close(self) -> None:
        """End everything."""
        self._end_drivers()
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
        for host in list(self.nodes):
            self.kill(host)
        for server in (self.objects, self.tracking):
            server.kill()
        self.postgres.stop()
        self.network.close()


@contextmanager
def net_cluster() -> Iterator[NetCluster]:
    """Run a cluster for the block."""
    folder = Path(tempfile.mkdtemp(prefix="sq"))
    found, before = None, dict(os.environ)
    try:
        found = NetCluster(folder)
        os.environ.update(found.environ)
        found.mend()
        yield found
    finally:
        os.environ.clear()
        os.environ.update(before)
        if found is not None:
            found.close()
        shutil.rmtree(folder, ignore_errors=True)


def all_train(trials: list[TrialRecord]) -> bool:
    """Tell whether every node has trained two epochs."""
    return sum(len(trial.epochs) >= 2 for trial in trials) >= NUM_NODES


@contextmanager
def held(hosts: list[Host]) -> Iterator[int]:
    """Let nobody train on some hosts for the block; tells how many processes are held."""
    processes = [process for host in hosts for process in workers(host)]
    send(processes, signal.SIGSTOP)
    try:
        yield len(processes)
    finally:
        send(processes, signal.SIGCONT)


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those that still are."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def workers(host: Host) -> list[psutil.Process]:
    """Return the processes that train on a host; Ray writes there what they do."""
    found = []
    for pid in host.pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if re.match(r"ray::\w*(Trainable|TrialActor)", " ".join(process.cmdline())):
                found.append(process)
    return found

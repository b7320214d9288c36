"""How well a search keeps the slots of a real Ray cluster busy, and where the lost time goes.

    python benchmarks/cluster_scale.py                     # 64 slots on 1, 2, 4 nodes: half an hour
    python benchmarks/cluster_scale.py --slots 8 --nodes 2 --storages journal --no-save

Each node is a `ray start` of its own, with the cluster's token; driver, study, tracking, stage
store and Ray are the real ones. Only training is simulated: workers sleep (`_simulated.Plan`), so
that two cores serve for 64 slots. The clock starts when all actors are up.

Search efficiency is ideal / real wall time. The ideal gives each free slot the next trial at once
and loses nothing else: the same trials, durations and order, so that both end with the same tail.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from _results import Figure, Pedigree
from _servers import mlflow_server, postgres, postgres_programs
from _simulated import SPACE, Plan, driver_of, sleeper

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from ray_cluster import RayCluster

LEAST_EFFICIENCY = 0.95
MLFLOW_SECONDS = 600.0  # for MLflow to write what is left


@dataclass(slots=True)
class Timed:
    """A driver, and how long its parts took since the first report (an executor's TrialSource).

    Attributes:
        driver: The driver.
        seconds: Of each call, by what it did.
        slots: What slots lost, in seconds, by how.
        order: Numbers of trials as they were begun.
        began_at: When all actors were up (Unix time).
        nodes: Those that trained.
        cpu: The process's and this thread's processor time at the first report.
    """

    driver: Any
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slots: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    order: list[int] = field(default_factory=list)
    began_at: float = 0.0
    ended_at: float = 0.0
    nodes: set[str] = field(default_factory=set)
    cpu: tuple[float, float] = (0.0, 0.0)

    def next_trial(self) -> Any:
        started = time.perf_counter()
        leg = self.driver.next_trial()
        if not isinstance(leg, str):
            self.seconds["proposal"].append(time.perf_counter() - started)
            self.order.append(leg.number)
        return leg

    def on_report(self, report: dict[str, Any]) -> bool:
        if not self.began_at:
            self.began_at, self.cpu = report["began_at"], (time.process_time(), time.thread_time())
        if report["between"]:
            self.slots[f"between {report['between']}"].append(report["idle"])
        self.slots["overslept"].append(report["overslept"])
        if "facts" in report:
            self.ended_at = max(self.ended_at, report["facts"]["ended_at"])
            self.nodes.add(report["facts"]["node_id"])
        started = time.perf_counter()
        ends: bool = self.driver.on_report(report)
        self.seconds["end of a trial" if "facts" in report else "report"].append(
            time.perf_counter() - started
        )
        return ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)


@dataclass(frozen=True, slots=True)
class Run:
    """One search to measure, in a process of its own."""

    address: str
    store: Path
    study_storage: str | None
    tracking_uri: str | None
    plan: Plan
    num_trials: int
    sampler: str


def search(run: Run) -> dict[str, Any]:
    """Search once; return figures: what they are, their unit and their value."""
    from rich.console import Console

    from sqtune.config import load_space
    from sqtune.search.executor import run_trials
    from sqtune.search.nodes import joined
    from sqtune.search.progress import Progress
    from sqtune.search.record import record_study
    from sqtune.search.storage import open_named, open_storage
    from sqtune.store import Store
    from sqtune.tracking import Tracker

    changes = {"num_trials": run.num_trials, "sampler": run.sampler, "seed": run.plan.seed}
    space = load_space(
        SPACE,
        [f"search.{key}={value}" for key, value in changes.items()]
        + [f"trial.num_epochs={run.plan.num_epochs}"],
    )
    store = Store.at(run.store)
    store.create()
    storage = (
        open_named(run.study_storage) if run.study_storage else open_storage(store, None, mend=True)
    )
    artifacts = None if run.tracking_uri else store.artifacts
    tracker = Tracker(run.tracking_uri or store.tracking_uri, artifacts, space.name, store.root)
    tracker.wait_until_connected()
    progress = Progress(Console(quiet=True))
    source = Timed(driver_of(space, store, storage, tracker, progress, run.plan.num_slots))
    record_study(source.driver.study, SPACE.read_text(), tracker, store)
    with joined(run.address):
        started = time.time()
        run_trials(
            source,
            space.resources,
            num_slots=run.plan.num_slots,
            folder=store.ray(space.name),
            trainable=sleeper(run.plan),
        )
        cpu = time.process_time() - source.cpu[0], time.thread_time() - source.cpu[1]
    trials_ended = time.monotonic()
    tracker.end_study("FINISHED", {})
    tracker.close(MLFLOW_SECONDS)
    behind = time.monotonic() - trials_ended
    if tracker.error is not None:
        sys.exit(str(tracker.error))
    assert source.driver.counted == run.num_trials
    return figures_of(source, run, source.began_at - started, cpu, behind)


def figures_of(
    source: Timed, run: Run, filled: float, cpu: tuple[float, float], behind: float
) -> dict[str, Any]:
    """Return the values of a search's figures by name and unit."""
    plan = run.plan
    wall = source.ended_at - source.began_at
    slot_seconds = plan.num_slots * wall
    planned = sum(sum(plan.seconds(number)) for number in source.order)
    found: dict[str, Any] = {
        "search efficiency": ("", plan.ideal_seconds(source.order) / wall),
        "share of slots that trained, tail included": ("", planned / slot_seconds),
        "reports": ("a second", len(source.slots["overslept"]) / wall),
        "until all actors were up": ("s", filled),
        "MLflow had everything, after the last trial": ("s", behind),
        "nodes that trained": ("", len(source.nodes)),
        "driver's processor": ("of a core", cpu[0] / wall),
        "of that the thread of driver and Ray Tune": ("of a core", cpu[1] / wall),
        "driver's memory": ("MB", psutil.Process().memory_info().rss / 1e6),
    }
    for how, lost in source.slots.items():
        found[f"lost {how}"] = ("of the slots' time", sum(lost) / slot_seconds)
        found[f"{how}, median"] = ("ms", 1000 * statistics.median(lost))
    for what, seconds in source.seconds.items():
        found[f"driver: {what}"] = ("ms", 1000 * statistics.median(seconds))
        found[f"driver: {what}, all"] = ("of the wall time", sum(seconds) / wall)
    return found


def measure(nodes: int, storage: str, options: argparse.Namespace) -> dict[str, Any]:
    """Start a cluster and its servers, search in it, and end them."""
    folder = Path(tempfile.mkdtemp(prefix="sq"))  # short: sockets lie in it
    cluster = RayCluster(folder, cpus=options.slots // nodes)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(cluster.close)
        for _ in range(nodes):
            cluster.add()
        os.environ.update(cluster.environ)
        (folder / "up").mkdir()
        uris: dict[str, str | None] = {"study_storage": None, "tracking_uri": None}
        if storage == "postgres":
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg")))
            study, tracking = stack.enter_context(postgres(place, "study", "mlflow"))
            server, _ = stack.enter_context(mlflow_server(folder, tracking))
            uris = {"study_storage": study, "tracking_uri": server}
        plan = Plan(
            options.slots, options.epochs, options.epoch_seconds, options.seed, folder / "up"
        )
        run = Run(
            cluster.address,
            folder / "store",
            **uris,
            plan=plan,
            num_trials=options.rounds * options.slots,
            sampler=options.sampler,
        )
        return in_a_process(search, run)


def in_a_process(function: Callable[[Run], dict[str, Any]], run: Run) -> dict[str, Any]:
    """Call a function in a process of its own: one joins one cluster."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, run).result()


def main() -> None:
    options = _options()
    pedigree, figures = Pedigree(), list[Figure]()
    for storage, nodes in itertools.product(options.storages, options.nodes):
        print(f"{nodes} nodes, {storage} ...", flush=True)
        for name, (unit, value) in measure(nodes, storage, options).items():
            bound = LEAST_EFFICIENCY if name == "search efficiency" else None
            title = f"{nodes} node{'s' if nodes > 1 else ''}, {storage}: {name}"
            figures.append(Figure(title, unit, [value], bound, "min", "at least"))
        pedigree.report(
            "cluster_scale",
            figures,
            settings={
                key: getattr(options, key)
                for key in ("slots", "epochs", "epoch_seconds", "rounds", "sampler")
            },
            seeds={"search": options.seed, "durations": options.seed},
            notes=[
                "journal: the store's journal and embedded MLflow; postgres: both in PostgreSQL, "
                "MLflow behind a server of one worker",
                "all nodes, servers and the driver share this machine; workers sleep and do not "
                "import torch",
            ],
            save=not options.no_save,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    storages = ["journal", *(["postgres"] if postgres_programs() else [])]
    parser.add_argument("--slots", type=int, default=64, help="of all nodes together")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--storages", nargs="+", default=storages, choices=["journal", "postgres"])
    parser.add_argument("--rounds", type=int, default=3, help="trials per slot")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--epoch-seconds", type=float, default=5.0, help="the median")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""What recording costs: the driver's time and processor time for an epoch, against five seconds.

Eight trials each report an epoch every few seconds, as trials with epochs of five seconds would,
to the embedded store and to a real `mlflow server` on this machine. The reporting thread's time is
what a search waits for; the processor time is the whole process's, so MLflow's thread and SQLite
are in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from _results import Figure, Pedigree
from _servers import mlflow_server

from sqtune.tracking import Tracker, quiet_environment
from sqtune.train.loop import METRICS

EPOCH_SECONDS = 5.0
NUM_TRIALS = 8
ROUND_SECONDS = 2.5  # longer than epochs wait for company: each is sent alone, the dearest way
MOST_SHARE = 0.01


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and its children."""
    times = [p.cpu_times() for p in [process, *process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def measure(uri: str, artifacts: Path | None, rounds: int) -> tuple[list[float], list[float]]:
    """Return waiting time and processor time for an epoch, one value a round, in ms."""
    tracker = Tracker(uri, artifacts, "benchmark")
    tracker.start_study("uuid", {}, {}, {})
    for number in range(NUM_TRIALS):
        tracker.start_trial(number, {"optimizer.lr": 0.1})
    while tracker.new_run_ids.qsize() < NUM_TRIALS:
        time.sleep(0.1)
    waits, costs = [], []
    for epoch in range(rounds + 2):  # the first two warm up
        cpu, waited = time.process_time(), 0.0
        for number in range(NUM_TRIALS):
            record = dict.fromkeys(METRICS, 1 / (2 + epoch + number))
            begun = time.perf_counter()
            tracker.log_epoch(number, {"epoch": epoch + 1, "time": time.time() * 1000, **record})
            waited += time.perf_counter() - begun
        time.sleep(ROUND_SECONDS)
        waits.append(1000 * waited / NUM_TRIALS)
        costs.append(1000 * (time.process_time() - cpu) / NUM_TRIALS)
    tracker.close()
    if tracker.error is not None:
        sys.exit(str(tracker.error))
    return waits[2:], costs[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="epochs of each of eight trials")
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    options = parser.parse_args()
    quiet_environment()
    pedigree = Pedigree()
    figures = []
    with tempfile.TemporaryDirectory(prefix="sqtune-benchmark-") as name:
        folder = Path(name)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        results = {"embedded": measure(uri, folder / "artifacts", options.rounds)}
        with mlflow_server(folder) as (uri, process):
            before = cpu_seconds(process)
            results["server"] = measure(uri, None, options.rounds)
            epochs = NUM_TRIALS * (options.rounds + 2)
            own = 1000 * (cpu_seconds(process) - before) / epochs
    for kind, (waits, costs) in results.items():
        shares = [cost / 1000 / EPOCH_SECONDS for cost in costs]
        figures += [
            Figure(f"{kind}: share of a 5 s epoch", "", shares, MOST_SHARE, claim="median"),
            Figure(f"{kind}: processor time an epoch", "ms", costs),
            Figure(f"{kind}: the driver waits for an epoch", "ms", waits),
        ]
    figures.append(Figure("the server's own processor time an epoch", "ms", [own]))
    pedigree.report(
        "tracking_cost",
        figures,
        settings={
            "trials": NUM_TRIALS,
            "metrics": len(METRICS),
            "round_seconds": ROUND_SECONDS,
            "cpus": len(os.sched_getaffinity(0)),
        },
        seeds={},
        notes=["the share is the processor time of the driver's process over five seconds"],
        save=not options.no_save,
    )


if __name__ == "__main__":
    main()

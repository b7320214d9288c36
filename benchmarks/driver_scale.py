"""What the driver costs for each trial, and what it keeps of it: simulated trials of no work.

    python benchmarks/driver_scale.py                    # 1,000 and 10,000 trials: some minutes
    python benchmarks/driver_scale.py --trials 200 --no-save

Real proposals at random, real study (the journal), real driver, stage store and Ray Tune; only the
workers train nothing: each reports as many epochs as a training would, and ends. So what passes
between two trials is the driver's and Ray Tune's; as many legs that come from nowhere and
go nowhere shows Ray Tune's share. MLflow, which has a thread of its own, is left out. Proposing by
TPE is timed at 1,000 trials, on the same study without Ray.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from _results import Figure, Pedigree
from _simulated import SPACE, Nowhere, NoWork, Unrecorded, driver_of
from rich.console import Console

from sqtune.config import SearchSpace, load_space
from sqtune.search.executor import LEGS_IN_WAVE, local_ray, run_trials
from sqtune.search.progress import Progress
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

MOST_MS = {1_000: 15.0, 10_000: 20.0}
MOST_KB = 20.0
MOST_PROPOSE_MS = 50.0


class Watched(Progress):
    """Looks at the memory now and then."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.ended, self.memory = 0, list[tuple[int, int]]()

    def trial_ended(self, trial: TrialRecord) -> None:
        super().trial_ended(trial)
        self.ended += 1
        if self.ended % LEGS_IN_WAVE == LEGS_IN_WAVE // 100:  # the wave before is gone
            self.look()

    def look(self) -> None:
        """Note how much memory there is, after so many trials."""
        gc.collect()
        self.memory.append((self.ended, psutil.Process().memory_info().rss))


def bare(num_trials: int, slots: int, space: SearchSpace, root: Path) -> float:
    """Return the seconds that Ray Tune alone takes for so many legs."""
    with local_ray(slots, 0):
        started = time.perf_counter()
        run_trials(
            Nowhere(num_trials),
            space.resources,
            num_slots=slots,
            folder=root / "ray",
            trainable=NoWork,
        )
        return time.perf_counter() - started


def run(space: SearchSpace, root: Path, slots: int) -> dict[str, Any]:
    """Run a search of no work; return seconds, CPU seconds and memory."""
    store = Store.at(root)
    store.create()
    progress = Watched(Console(quiet=True))
    driver = driver_of(
        space, store, open_storage(store, None), Unrecorded(), progress, num_slots=slots
    )
    with local_ray(slots, 0):
        started, cpu = time.perf_counter(), time.process_time()
        run_trials(
            driver, space.resources, num_slots=slots, folder=store.ray("x"), trainable=NoWork
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert driver.counted == progress.ended == space.search.num_trials
    assert driver.ending() == "complete"
    return {
        "seconds": seconds,
        "cpu": cpu,
        "memory": progress.memory,
        "study": driver.study,
        "space": space,
    }


def propose(study: Study, space: SearchSpace, num_proposals: int) -> list[float]:
    """Return milliseconds for each of some further proposals by TPE."""
    search = space.search.model_copy(update={"sampler": "tpe"})
    study.space = space.model_copy(update={"search": search})
    study._proposals = type(study._proposals)(study._study, study.space)  # type: ignore[misc]
    times = []
    for _ in range(num_proposals):
        started = time.perf_counter()
        trial = study.ask()
        times.append(1000 * (time.perf_counter() - started))
        assert trial is not None
        if trial.state == "running":
            study.report(trial.number, 1, {"train_loss": 1.0, "val_error": 0.1, "ratio": 1.0})
            study.finish(trial.number, 0.1, {})
    return times


def main() -> None:
    options = _options()
    pedigree = Pedigree()
    figures, proposals = [], list[float]()
    for num_trials in options.trials:
        changes = [f"search.num_trials={num_trials}", "search.sampler=random"]
        space = load_space(SPACE, [*changes, f"trial.num_epochs={NoWork.num_epochs}"])
        with tempfile.TemporaryDirectory() as folder:
            found = run(space, Path(folder) / "store", options.slots)
            alone = 1000 * bare(num_trials, options.slots, space, Path(folder)) / num_trials
            per_trial = 1000 * found["seconds"] / num_trials
            (first, low), (last, high) = found["memory"][0], found["memory"][-1]
            figures += [
                Figure(
                    f"driver and Ray Tune, {num_trials:,} trials",
                    "ms a trial",
                    [per_trial],
                    MOST_MS.get(num_trials),
                ),
                Figure(f"Ray Tune alone, {num_trials:,} trials", "ms a trial", [alone]),
                Figure(
                    f"so the driver's own, {num_trials:,} trials", "ms a trial", [per_trial - alone]
                ),
                Figure(
                    f"CPU time of the driver, {num_trials:,} trials",
                    "ms a trial",
                    [1000 * found["cpu"] / num_trials],
                ),
            ]
            if last > first:
                growth = (high - low) / (last - first) / 1000
                figures.append(
                    Figure(f"memory, trials {first} to {last}", "kB a trial", [growth], MOST_KB)
                )
            if num_trials == 1_000:
                proposals = propose(found["study"], space, 20)
                figures.append(
                    Figure(
                        "proposing by TPE, at 1,000 trials",
                        "ms",
                        proposals,
                        MOST_PROPOSE_MS,
                        claim="median",
                    )
                )
        print(json.dumps([figure.summary() for figure in figures[-3:]]), flush=True)
    pedigree.report(
        "driver_scale",
        figures,
        settings={
            "slots": options.slots,
            "epochs": NoWork.num_epochs,
            "legs in a wave": LEGS_IN_WAVE,
        },
        seeds={"sampler": 0},
        notes=[f"median proposal {statistics.median(proposals):.1f} ms"] if proposals else [],
        save=not options.no_save,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--no-save", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

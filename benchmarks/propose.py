"""What the study costs the driver: proposing, reporting, finishing, reading; and memory per trial.

    python benchmarks/propose.py --trials 1000 --trials 10000

A random study is driven up to each number of trials, without training (12 epochs reported each);
then the next trials are timed. TPE is timed on a study that was warm-started from it. The journal
lies where TMPDIR says: each line is written through to its disk.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

from sqtune.config import load_space
from sqtune.config.space import SearchSpace
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

NUM_EPOCHS = 12
METRICS = (
    "train_loss", "val_error_hybrid", "ratio", "lr", "quantization_error", "changed_rows",
    "images_per_second",
)  # fmt: skip


def drive(study: Study, num_trials: int) -> dict[str, list[float]]:
    """Ask for trials and end them; return seconds by step."""
    seconds: dict[str, list[float]] = {"ask": [], "report (1 epoch)": [], "finish": []}
    cpu = time.process_time()
    for _ in range(num_trials):
        start = time.perf_counter()
        trial = study.ask()
        assert trial is not None, study.exhausted
        seconds["ask"].append(time.perf_counter() - start)
        if trial.ended:
            continue
        for epoch in range(1, NUM_EPOCHS + 1):
            start = time.perf_counter()
            val_error = 1 / (3 + trial.number % 17 + epoch)
            metrics = {"val_error": val_error, **dict.fromkeys(METRICS, 0.123456789)}
            study.report(trial.number, epoch, metrics)
            seconds["report (1 epoch)"].append(time.perf_counter() - start)
        start = time.perf_counter()
        study.finish(trial.number, val_error, {"size_bytes": 1000, "node": "127.0.0.1"})
        seconds["finish"].append(time.perf_counter() - start)
    seconds["CPU of all, 12 epochs"] = [(time.process_time() - cpu) / num_trials]
    return seconds


def show(title: str, seconds: dict[str, list[float]]) -> None:
    """Print medians and the slowest tenth."""
    parts = []
    for name, times in seconds.items():
        median, slow = statistics.median(times), sorted(times)[int(0.9 * len(times))]
        parts.append(f"{name} {1e3 * median:.2f} ms ({1e3 * slow:.2f})")
    print(f"{title}: {', '.join(parts)}", flush=True)


def with_sampler(space: SearchSpace, sampler: str) -> SearchSpace:
    """Return the space under another name with another sampler."""
    search = space.search.model_copy(update={"sampler": sampler})
    return space.model_copy(update={"name": sampler, "search": search})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="search_spaces/resnet.yaml")
    parser.add_argument("--trials", type=int, action="append")
    parser.add_argument("--timed", type=int, default=20)
    arguments = parser.parse_args()
    space = load_space(Path(arguments.space))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(Path(folder) / "store")
        store.create()
        storage = open_storage(store, None)
        study = Study.create_or_continue(storage, with_sampler(space, "random"), {})
        done = 0
        for wanted in sorted(arguments.trials or [1_000, 10_000]):
            drive(study, wanted - done)
            show(f"random at {wanted:,} trials", drive(study, arguments.timed))
            done = wanted + arguments.timed
            if wanted <= 1_000:
                learner = Study.create_or_continue(storage, with_sampler(space, "tpe"), {})
                learner.warm_start(study)
                show(f"tpe    at {wanted:,} trials", drive(learner, arguments.timed))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.perf_counter()
            again = Study.load(open_storage(store, None), "random")
            opened = time.perf_counter() - start
            records = again.trials()
            read = time.perf_counter() - start - opened
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(
                f"opened anew: {opened:.2f} s, {len(records):,} records in {read:.2f} s, "
                f"{grown / len(records):.1f} KiB a trial, journal "
                f"{store.journal.stat().st_size / 1024 / len(records):.1f} KiB a trial",
                flush=True,
            )


if __name__ == "__main__":
    main()

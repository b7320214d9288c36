"""What a search costs beyond training: overhead, hand-over between trials, start-up.

    python benchmarks/search_overhead.py
    python benchmarks/search_overhead.py --trials 4 --rounds 1 --set trial.num_epochs=2 --no-save

Overhead: from the first trial's start to the last one's end in a real `sqtune search`, over the
time for the same configurations back to back through `train()` in as many plain processes as slots.
Searches and plain runs alternate, and so does which of them goes first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _results import Figure, Pedigree
from _search import SPACE, add_options, finished_trials, overrides, start_search, wait

MOST_OVERHEAD = 1.05
MOST_HAND_OVER_SECONDS = 0.3
MOST_START_UP_SECONDS = 15.0
READY_SECONDS = 300.0  # for plain processes to import torch


@dataclass(frozen=True, slots=True)
class Job:
    """One trial as a plain process gets it: number, TrialConfig as JSON, data, where to save."""

    number: int
    config: str
    data: str
    save_to: str


@dataclass(frozen=True, slots=True)
class Ended:
    """One trial that ran: Unix times in seconds, and its last validation error (0..1)."""

    number: int
    process: int
    started_at: float
    ended_at: float
    val_error: float

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True)
class Searched:
    """One search: its trials, their configurations, and seconds from the command on."""

    trials: list[Ended]
    configs: list[Any]
    to_first_trial: float
    to_first_result: float


def search(root: Path, changes: list[str], num_trials: int) -> Searched:
    log = root / "search.log"
    commanded_at = time.time()
    wait(start_search(root / "store", changes, log), log)
    records = finished_trials(root / "store", num_trials)
    trials = [
        Ended(
            record.number,
            record.facts["process"],
            record.facts["started_at"],
            record.facts["ended_at"],
            record.epochs[-1]["val_error"],
        )
        for record in records
    ]
    first_result = min(record.epochs[0]["time"] for record in records) / 1000
    return Searched(
        trials,
        [record.config for record in records],
        to_first_trial=min(trial.started_at for trial in trials) - commanded_at,
        to_first_result=first_result - commanded_at,
    )


def plain(
    root: Path, configs: list[Any], store: Path, num_processes: int, threads: int
) -> list[Ended]:
    """Train the configurations in plain processes that share one queue of them."""
    from sqtune.data.prepare import prepared_path

    jobs = [
        Job(
            number,
            config.model_dump_json(),
            str(prepared_path(config.data, store / "data")),
            str(root / "networks" / str(number)),
        )
        for number, config in enumerate(configs)
    ]
    root.mkdir()
    spawn = multiprocessing.get_context("spawn")
    taken, ready = spawn.Value("i", 0), spawn.Barrier(num_processes)
    reports = [root / f"process-{k}.json" for k in range(num_processes)]
    processes = [
        spawn.Process(target=_work, args=(jobs, taken, ready, threads, str(report)))
        for report in reports
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode != 0 for process in processes):
        sys.exit("a plain process failed; its traceback stands above")
    ended = [
        Ended(**one) for report in reports for one in json.loads(report.read_text(encoding="utf-8"))
    ]
    return sorted(ended, key=lambda one: one.number)


def _work(jobs: list[Job], taken: Any, ready: Any, threads: int, report: str) -> None:
    """Train jobs, the next untaken one each time; torch and data are there before any begins."""
    import os

    from sqtune.config import TrialConfig
    from sqtune.data.split import open_prepared
    from sqtune.train.loop import train

    splits = {path: open_prepared(Path(path)) for path in {job.data for job in jobs}}
    ended: list[dict[str, Any]] = []
    ready.wait(READY_SECONDS)
    while True:
        with taken.get_lock():
            index = taken.value
            taken.value += 1
        if index >= len(jobs):
            break
        job, started_at = jobs[index], time.time()
        config = TrialConfig.model_validate_json(job.config)
        results = train(
            config, splits=splits[job.data], num_threads=threads, save_to=Path(job.save_to)
        )
        *_, last = results
        ended.append(
            {
                "number": job.number,
                "process": os.getpid(),
                "started_at": started_at,
                "ended_at": time.time(),
                "val_error": last.val_error,
            }
        )
    Path(report).write_text(json.dumps(ended), encoding="utf-8")


def span(trials: list[Ended]) -> float:
    """Return seconds from the first start to the last end."""
    return max(trial.ended_at for trial in trials) - min(trial.started_at for trial in trials)


def hand_overs(trials: list[Ended]) -> list[float]:
    """Return the seconds between one trial's end and the next one's start in the same process."""
    gaps = []
    for process in {trial.process for trial in trials}:
        own = sorted(
            (trial for trial in trials if trial.process == process), key=lambda one: one.started_at
        )
        gaps += [after.started_at - before.ended_at for before, after in itertools.pairwise(own)]
    return gaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, trials=24)
    parser.add_argument("--rounds", type=int, default=3, help="searches, and plain runs")
    options = parser.parse_args()
    from sqtune.config import load_space

    changes = overrides(options)
    space = load_space(SPACE, changes)
    slots, trials = space.search.max_concurrent or 1, space.search.num_trials
    pedigree = Pedigree()
    print(f"{options.rounds} rounds, {trials} trials, {slots} at once", flush=True)
    with tempfile.TemporaryDirectory(prefix="sqtune-benchmark-") as folder:
        rounds = _measure(Path(folder), changes, options.rounds, trials, slots, space.resources)
    configs = rounds[0][0].configs
    pedigree.report(
        "search_overhead",
        _figures(rounds),
        settings={
            "space": SPACE.name,
            "set": changes,
            "rounds": options.rounds,
            "slots": slots,
            "threads_per_trial": space.resources.num_threads,
        },
        seeds={"search.seed": options.seed, "trial.seed": configs[0].seed},
        notes=_notes(rounds, slots),
        save=not options.no_save,
    )


def _measure(
    folder: Path, changes: list[str], num_rounds: int, trials: int, slots: int, resources: Any
) -> list[tuple[Searched, list[Ended]]]:
    """Alternate searches and plain runs; the first search shows which configurations to train."""
    rounds: list[tuple[Searched, list[Ended]]] = []
    first: Searched | None = None
    store = folder / "search-0" / "store"
    for number in range(num_rounds):
        searched, trained = None, None
        for turn in ("search", "plain") if number % 2 == 0 else ("plain", "search"):
            root = folder / f"{turn}-{number}"
            if turn == "search":
                root.mkdir()
                searched = search(root, changes, trials)
                first = first or searched
            else:
                assert first is not None
                trained = plain(root, first.configs, store, slots, resources.num_threads)
        assert first is not None
        assert searched is not None
        assert trained is not None
        if searched.configs != first.configs:
            sys.exit(f"round {number + 1} searched other configurations than round 1")
        rounds.append((searched, trained))
        both = span(searched.trials), span(trained)
        print(
            f"round {number + 1}: search {both[0]:.2f} s, plain {both[1]:.2f} s, "
            f"ratio {both[0] / both[1]:.4f} (at most {MOST_OVERHEAD})",
            flush=True,
        )
    return rounds


def _figures(rounds: list[tuple[Searched, list[Ended]]]) -> list[Figure]:
    searches = [span(searched.trials) for searched, _ in rounds]
    plains = [span(trained) for _, trained in rounds]
    stretch = [
        statistics.median(
            one.seconds / other.seconds for one, other in zip(searched.trials, trained, strict=True)
        )
        for searched, trained in rounds
    ]
    ratios = [one / other for one, other in zip(searches, plains, strict=True)]
    gaps = [gap for searched, _ in rounds for gap in hand_overs(searched.trials)]
    first_trial = [searched.to_first_trial for searched, _ in rounds]
    first_result = [searched.to_first_result for searched, _ in rounds]
    figures = [
        Figure("search", "s", searches),
        Figure("plain processes", "s", plains),
        Figure("search overhead", "", ratios, MOST_OVERHEAD, "median"),
        Figure("same trial, search over plain (round's median)", "", stretch),
        Figure("command to first trial's start", "s", first_trial, MOST_START_UP_SECONDS),
        Figure("command to first stored result", "s", first_result, MOST_START_UP_SECONDS),
    ]
    if gaps:
        figures.append(Figure("hand-over on a warm slot", "s", gaps, MOST_HAND_OVER_SECONDS))
    return figures


def _notes(rounds: list[tuple[Searched, list[Ended]]], slots: int) -> list[str]:
    pairs = [
        one.val_error == other.val_error
        for searched, trained in rounds
        for one, other in zip(searched.trials, trained, strict=True)
    ]
    processes = [len({trial.process for trial in searched.trials}) for searched, _ in rounds]
    return [
        f"{sum(pairs)} of {len(pairs)} trials have the same validation error in search and plain",
        f"worker processes per search: {processes}, slots: {slots}",
        "the first training step lies between the first trial's start and the first stored result",
        "what a worker imports after a trial's start counts as the search's time, not the plain's",
    ]


if __name__ == "__main__":
    main()

"""A real `sqtune search` of the shipped space as a subprocess, and what it stored."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sqtune.config import SearchSpace, load_space
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "resnet.yaml"
STUDY = "benchmark"


def add_options(parser: argparse.ArgumentParser, *, trials: int) -> None:
    parser.add_argument("--trials", type=int, default=trials, help="trials of a search")
    parser.add_argument("--slots", type=int, help="trials at once; by default what fits")
    parser.add_argument("--seed", type=int, default=0, help="search.seed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="as of sqtune search"
    )
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")


def overrides(options: argparse.Namespace) -> list[str]:
    """Return the space's overrides: random sampler, so that order of completion is no matter."""
    given = [
        "search.sampler=random",
        f"search.seed={options.seed}",
        f"search.num_trials={options.trials}",
        *options.set,
    ]
    return [*given, f"search.max_concurrent={num_slots(load_space(SPACE, given), options.slots)}"]


def num_slots(space: SearchSpace, asked: int | None) -> int:
    """Return how many trials run at once on this machine."""
    fitting = int(len(os.sched_getaffinity(0)) / space.resources.cpus)
    wanted = asked or space.search.max_concurrent or fitting
    return min(wanted, fitting, space.search.num_trials)


def start_search(store: Path, changes: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a search in a store; its output goes to `log`."""
    command = [sys.executable, "-m", "sqtune", "search", "--space", str(SPACE)]
    command += ["--name", STUDY, "--store", str(store)]
    command += [part for change in changes for part in ("--set", change)]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def finished_trials(store: Path, num_trials: int) -> list[TrialRecord]:
    """Return a search's trials by number; end the benchmark unless all of them finished."""
    trials = Study.load(open_storage(Store.at(store), None), STUDY).trials()
    problems = [f"trial {trial.number}: {trial.state} {trial.failure or ''}" for trial in trials]
    states = {trial.state for trial in trials}
    if len(trials) != num_trials or states != {"finished"}:
        sys.exit(f"not all of {num_trials} trials finished:\n" + "\n".join(problems))
    return trials


def wait(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a search; end the benchmark with its output if it fails."""
    if process.wait() != 0:
        sys.exit(f"the search failed:\n{log.read_text(encoding='utf-8', errors='replace')}")

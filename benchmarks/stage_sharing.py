"""How many epochs are trained of those that trials ask for, when what they share is trained once.

    python benchmarks/stage_sharing.py --data CIFAR10
    python benchmarks/stage_sharing.py --trials 8 --no-save

A real search of the schedules on digits; then the same count by `sqtune plan` for it, for the
shipped space whose learning rate is continuous, so that trials have next to nothing in common, and,
with --data, for the schedules on a folder of CIFAR-10's images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from _results import Figure, Pedigree

SPACES = Path(__file__).resolve().parents[1] / "search_spaces"
MOST_SHARE = 0.5


def searched(space: Path, trials: int) -> tuple[int, int]:
    """Return the epochs trained and asked for by a real search."""
    with tempfile.TemporaryDirectory(prefix="sqtune-benchmark-") as folder:
        command = [sys.executable, "-m", "sqtune", "search", "--space", str(space), "--json"]
        command += ["--trials", str(trials), "--store", f"{folder}/store"]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    content = json.loads(answer.stdout)
    counted = [each for each in content["trials"] if each["duplicate_of"] is None]
    assert len(counted) == trials
    return content["epochs_trained"], content["epochs_asked"]


def planned(space: Path, trials: int, *changes: str) -> tuple[int, int]:
    """Return the epochs trained and asked for as `sqtune plan` counts them."""
    given = [f"search.num_trials={trials}", "search.sampler=random", *changes]
    command = [sys.executable, "-m", "sqtune", "plan", "--space", str(space), "--json"]
    command += [part for change in given for part in ("--set", change)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    counts = json.loads(answer.stdout)["trials"]
    return counts["epochs"], counts["epochs_asked"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10's images")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    pedigree, figures, notes = Pedigree(), [], []
    trained, asked = searched(SPACES / "schedules_digits.yaml", options.trials)
    figures.append(Figure("schedules_digits.yaml, searched", "", [trained / asked], MOST_SHARE))
    notes.append(f"schedules_digits.yaml: {trained} of {asked} epochs trained")
    spaces = [("schedules_digits", MOST_SHARE, []), ("resnet", None, [])]
    if options.data is not None:
        data = f"trial.data={{name: image_folder, root: {options.data.absolute()}}}"
        spaces.append(("schedules_cifar10", MOST_SHARE, [data]))
    for name, bound, changes in spaces:
        trained, asked = planned(SPACES / f"{name}.yaml", options.trials, *changes)
        figures.append(Figure(f"{name}.yaml, counted", "", [trained / asked], bound))
        notes.append(f"{name}.yaml: {trained} of {asked} epochs, counted")
    pedigree.report(
        "stage_sharing",
        figures,
        settings={"trials": options.trials},
        seeds={"search.seed": 0},
        notes=notes,
        save=not options.no_save,
    )


if __name__ == "__main__":
    main()

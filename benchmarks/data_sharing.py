"""What a data set costs in memory as trials are added: they map one prepared file.

    python benchmarks/data_sharing.py
    python benchmarks/data_sharing.py --no-save

One and four processes each train an epoch of a small network on a set of 320 MB (random images of
CIFAR's size) and again on one of 3.2 MB. After the epoch, when every image has been read, each
process's PSS is taken (shared pages are divided among those that share them, so that sums are
true). The claim is on what a further trial adds with the large set, less what it adds with the
small one, which is the interpreter's and torch's own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from _results import Figure, Pedigree
from slot_memory import memory

SEED = 0
NUM_IMAGES = {"large": 104_200, "small": 1_042}
IMAGE_BYTES = 3 * 32 * 32
MOST_OF_THE_SET = 0.05  # that a further trial may add
TRIALS = (1, 4)


def write_set(path: Path, num_images: int) -> None:
    """Write a prepared set of random images: 80 % training, 10 % each for the others."""
    import torch

    from sqtune.data.split import Split, Splits, write_prepared

    generator = torch.Generator().manual_seed(SEED)
    images = torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(num_images) % 10
    tenth = num_images // 10
    sizes = [num_images - 2 * tenth, tenth, tenth]
    parts = map(Split, images.split(sizes), labels.split(sizes))
    classes = tuple("0123456789")
    write_prepared(Splits(*parts, classes, (0.5,) * 3, (0.29,) * 3, path.stem), path)


def train_and_wait(path: Path) -> None:
    """Train an epoch on a prepared set, say so, and wait to be ended."""
    from sqtune.config.trial import TrialConfig
    from sqtune.data import Cifar
    from sqtune.data.split import open_prepared
    from sqtune.networks import ResNet
    from sqtune.train.loop import train

    config = TrialConfig(
        data=Cifar(), network=ResNet("resnet8", width=1), batch_size=512, num_epochs=1
    )
    splits = open_prepared(path)
    list(train(config, splits=splits, num_threads=1))
    print("trained", flush=True)
    sys.stdin.read()


def pss(path: Path, num_trials: int) -> list[float]:
    """Return the PSS in MB of each of so many trials, all alive and trained."""
    command = [sys.executable, __file__, "--trial", str(path)]
    trials = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(num_trials)
    ]
    try:
        for trial in trials:
            assert trial.stdout is not None
            if trial.stdout.readline() != b"trained\n":
                sys.exit("a trial ended before it was measured")
        return [memory(trial.pid)["PSS"] for trial in trials]
    finally:
        for trial in trials:
            assert trial.stdin is not None
            trial.stdin.close()
            trial.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trial", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-save", action="store_true", help="leave benchmarks/results/ alone")
    options = parser.parse_args()
    if options.trial is not None:
        train_and_wait(options.trial)
        return
    pedigree = Pedigree()
    figures, added = [], {}
    with tempfile.TemporaryDirectory(prefix="sqtune-benchmark-") as folder:
        for name, num_images in NUM_IMAGES.items():
            path = Path(folder) / f"{name}.safetensors"
            write_set(path, num_images)
            taken = {num: pss(path, num) for num in TRIALS}
            figures += [
                Figure(f"{name} set, PSS of all, {num} at once", "MB", [sum(taken[num])])
                for num in TRIALS
            ]
            one, four = (sum(taken[num]) for num in TRIALS)
            added[name] = (four - one) / (TRIALS[1] - TRIALS[0])
            figures.append(Figure(f"{name} set, a further trial", "MB", [added[name]]))
    set_mb = NUM_IMAGES["large"] * IMAGE_BYTES / 1e6
    share = (added["large"] - added["small"]) / set_mb
    figures.append(
        Figure("share of the set that a further trial adds", "", [share], MOST_OF_THE_SET)
    )
    pedigree.report(
        "data_sharing",
        figures,
        settings={
            "set_mb": set_mb,
            "small_set_mb": NUM_IMAGES["small"] * IMAGE_BYTES / 1e6,
            "network": "resnet8, width 1",
            "trials": list(TRIALS),
        },
        seeds={"images": SEED},
        notes=[
            "MB are 10**6 bytes; after one epoch with its evaluations, so every image was read",
            "PSS divides shared pages among those that share them; a sum counts each page once",
        ],
        save=not options.no_save,
    )


if __name__ == "__main__":
    main()

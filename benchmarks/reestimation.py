"""Re-estimating batch norm for an evaluation: what it costs, and what it is good for.

    python benchmarks/reestimation.py
    python benchmarks/reestimation.py --data DIR --subset 8000 --results DIR

Cost: the time of one re-estimation over that of an epoch of CIFAR's size (random images, 32x32);
and that of looking at what happened to the layers (`diagnostics()`), which comes once an epoch too.
Use: configurations are trained to the end; after each epoch their fully quantized validation error
is measured with batch norm re-estimated and with the statistics training left. Spearman's rank
correlation of either with the final error says which one an early look should trust.

DIR holds one sub-folder of images per class, or train/ and test/ with such. Every finished run is
a line of reestimation.jsonl beside the results; the same command goes on after the last one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from _random_cifar import half_binary, random_splits
from _reestimation_runs import Network, Run, configurations, finished_runs, train
from _results import RESULTS, Figure, Pedigree
from _trainings import subset
from scipy.stats import spearmanr

from sqtune.config import TrialConfig
from sqtune.data import Digits, ImageFolder
from sqtune.data.prepare import prepare
from sqtune.data.split import Splits
from sqtune.networks import ResNet

MOST_COST = {"re-estimation": 0.05, "diagnostics": 0.01}  # of an epoch
CIFAR_IMAGES = 45_000
COST_STEPS = 15  # training steps between two re-estimations
LOOKS = (0.25, 0.5, 0.75)  # progress
RATIO_RANGES = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.999), (0.999, 1.0))


def cost_shares(num_rounds: int, seed: int) -> dict[str, list[float]]:
    """Return what is done once an epoch as a share of an epoch, one value per round.

    The epoch is ResNet-20's, binary at ratio 0.5, on 45,000 images.
    """
    config = half_binary("resnet20", batch_size=128, num_epochs=1, seed=seed)
    network = Network(config, random_splits(CIFAR_IMAGES, seed))
    steps = network.steps(0.5)
    for _ in islice(steps, 3):  # warm-up
        pass
    steps_per_epoch = CIFAR_IMAGES // network.config.batch_size
    network.quantization.diagnostics()  # the first has no codes to compare with
    shares: dict[str, list[float]] = {"re-estimation": [], "diagnostics": []}
    for number in range(num_rounds):
        seconds = {}
        parts = ("steps", *shares) if number % 2 else (*shares, "steps")
        for part in parts:
            started = time.perf_counter()
            if part == "steps":
                for _ in islice(steps, COST_STEPS):
                    pass
            elif part == "diagnostics":
                network.quantization.diagnostics()
            else:
                with network.quantization.quantized(), network.reestimated():
                    pass
            seconds[part] = time.perf_counter() - started
        epoch = seconds["steps"] / COST_STEPS * steps_per_epoch
        for part, values in shares.items():
            values.append(seconds[part] / epoch)
        costs = ", ".join(f"{part} {values[-1]:.5f}" for part, values in shares.items())
        print(f"shares of an epoch, round {number + 1}: {costs}", flush=True)
    return shares


def run_all(
    configs: Sequence[TrialConfig], splits: Splits, settings: dict[str, Any], log: Path
) -> list[Run]:
    """Train what the log does not have yet; append each run to it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(run.config): run for run in finished_runs(log, settings)}
    runs = []
    for number, config in enumerate(configs, start=1):
        key = _key(config.nested())
        if key not in done:
            started = time.perf_counter()
            run = train(config, splits)
            line = json.dumps({"settings": settings, **asdict(run)})
            with log.open("a", encoding="utf-8") as file:
                # The newline in front closes a line that an interruption cut off.
                file.write(f"\n{line}\n")
            done[key] = Run(json.loads(line)["config"], run.epochs)
            print(
                f"run {number} of {len(configs)}: {config.quantizer.name} {config.schedule.name} "
                f"lr {config.optimizer.lr:g}: error {run.final:.3f}, "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )
        runs.append(done[key])
    return runs


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def figures_of(runs: Sequence[Run], shares: Mapping[str, Sequence[float]]) -> list[Figure]:
    figures = [
        Figure(f"{part}, share of an epoch", "", values, MOST_COST[part], claim="median")
        for part, values in shares.items()
        if values
    ]
    for low, high in RATIO_RANGES:
        epochs = [epoch for run in runs for epoch in run.epochs if low < epoch.ratio <= high]
        for kind in ("reestimated", "as_trained") if epochs else ():
            name = f"error at ratio in ({low:g}, {high:g}], {kind.replace('_', ' ')}"
            figures.append(Figure(name, "", [round(getattr(one, kind), 5) for one in epochs]))
    for kind in ("reestimated", "as_trained", "hybrid"):
        for look in LOOKS:
            early = [getattr(run.at(look), kind) for run in runs]
            if len(set(early)) == 1:
                continue  # all alike: there is no order to correlate
            rank = spearmanr(early, [run.final for run in runs]).statistic
            name = f"Spearman with the final error, at {look:.0%}, {kind.replace('_', ' ')}"
            figures.append(Figure(name, "", [round(float(rank), 5)]))
    return figures


def about(run: Run) -> dict[str, Any]:
    """Return what the stored result says of a run."""
    config = run.config
    return {
        "schedule": config["schedule"]["name"],
        "quantizer": config["quantizer"]["name"],
        "lr": config["optimizer"]["lr"],
        "seed": config["seed"],
        "final": run.final,
        "looks": {f"{look:.0%}": asdict(run.at(look)) for look in LOOKS},
    }


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    pedigree = Pedigree()
    shares = cost_shares(options.cost_rounds, options.seed)
    if options.data is None:
        title, data = "digits", Digits()
    else:
        title = options.title or options.data.name
        data = ImageFolder(str(options.data), image_size=options.image_size)
    splits = prepare(data, options.results / "data" if options.data else None)
    splits = subset(splits, options.subset, options.validation)
    settings = {
        "data": title,
        "image_size": splits.image_size[0],
        "images": [len(splits.train), len(splits.validation)],
        "network": options.network,
        "width": options.width,
        "epochs": options.epochs,
        "threads": 1,
    }
    base = TrialConfig(
        data=data,
        network=ResNet(options.network, options.width),
        num_epochs=options.epochs,
    )
    configs = configurations(base, options.configurations, options.seed)
    print(f"{len(configs)} runs on {settings}", flush=True)
    runs = run_all(configs, splits, settings, options.results / "reestimation.jsonl")
    finals = [run.final for run in runs]
    pedigree.report(
        "reestimation",
        figures_of(runs, shares),
        settings=settings
        | {
            "cost": "resnet20, 45,000 images of 32x32, batch 128",
            "runs": [about(run) for run in runs],
        },
        seeds={"seed": options.seed},
        notes=[
            f"{len(runs)} runs on {title}, {settings['image_size']} pixels, "
            f"{settings['images'][0]} training and {settings['images'][1]} validation images",
            f"final errors: {min(finals):.3f} to {max(finals):.3f}, "
            f"median {statistics.median(finals):.3f}",
            "hybrid: the network that is being trained; it has a float part and is no candidate",
        ],
        save=not options.no_save,
        folder=options.results,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of images; by default digits")
    parser.add_argument("--title", help='of the data, such as "CIFAR-10 (JPEG)"')
    parser.add_argument("--image-size", type=int, default=16, help="pixels, for --data")
    parser.add_argument("--subset", type=int, help="training images; by default all")
    parser.add_argument("--validation", type=int, help="validation images; by default all")
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--configurations", type=int, default=20)
    parser.add_argument("--cost-rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--no-save", action="store_true", help="write no final JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()

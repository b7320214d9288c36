"""Trainings of a space's configurations, whole and from several seeds; each is kept as it ends."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _results import RESULTS

from sqtune.config import SearchSpace, TrialConfig, load_space
from sqtune.config.grid import draw, points
from sqtune.data.prepare import prepare
from sqtune.data.split import Split, Splits
from sqtune.train.loop import train

SPACES = Path(__file__).resolve().parent / "spaces"
KEPT = ("train_loss", "val_error", "val_error_hybrid", "ratio")


@dataclass(frozen=True, slots=True)
class Training:
    """One training from its first to its last epoch.

    Attributes:
        config: Of the training, as plain data.
        epochs: By epoch: train_loss, val_error_hybrid, ratio and, where rows were quantized,
            val_error (all weights quantized). Errors are shares (0..1).
        seconds: What it took.
    """

    config: dict[str, Any]
    epochs: tuple[dict[str, float], ...]
    seconds: float

    @property
    def final(self) -> float:
        """Validation error (0..1) of the network that is delivered."""
        return self.epochs[-1]["val_error"]

    def at(self, progress: float) -> dict[str, float]:
        """Return what was measured at the epoch nearest to a point of progress (0..1)."""
        return self.epochs[max(1, round(progress * len(self.epochs))) - 1]

    @property
    def without_seed(self) -> str:
        """A key that trainings of one configuration share whatever their seed."""
        return _key({**self.config, "seed": None})


def configurations(space: SearchSpace, num: int | None, seed: int) -> list[TrialConfig]:
    """Return all configurations of a finite space in random order, or `num` drawn from any.

    Raises:
        ConfigError: The space is endless, and `num` is None.
    """
    draws = random.Random(seed)
    if num is None:
        found = [space.config(values) for values in points(space)]
        draws.shuffle(found)
        return found
    drawn: dict[str, TrialConfig] = {}
    while len(drawn) < num:
        config = space.config(draw(space, draws))
        drawn.setdefault(_key(config.nested()), config)
    return list(drawn.values())


def subset(splits: Splits, num_train: int | None, num_validation: int | None) -> Splits:
    """Return a random part of training and validation images, always the same one."""

    def part(split: Split, num: int | None) -> Split:
        ids = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:num]
        return Split(split.images[ids], split.labels[ids])

    return replace(
        splits,
        train=part(splits.train, num_train),
        validation=part(splits.validation, num_validation),
    )


def finished(log: Path, settings: Mapping[str, Any] | None = None) -> list[Training]:
    """Return the trainings that a log has from these settings, by default from its latest ones.

    A line that was cut off is passed over.
    """
    lines = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    if settings is None and lines:
        settings = lines[-1]["settings"]
    return [
        Training(kept["config"], tuple(kept["epochs"]), kept["seconds"])
        for kept in lines
        if kept["settings"] == settings
    ]


def by_configuration(trainings: Sequence[Training]) -> dict[str, list[Training]]:
    """Return the trainings by configuration, the seed left out."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(training.without_seed, []).append(training)
    return groups


def run_all(
    configs: Sequence[TrialConfig], splits: Splits, settings: Mapping[str, Any], log: Path
) -> None:
    """Train what the log does not have yet and append each training to it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    done = {_key(training.config) for training in finished(log, settings)}
    todo = [config for config in configs if _key(config.nested()) not in done]
    print(f"{len(todo)} of {len(configs)} trainings to go", flush=True)
    for number, config in enumerate(todo, start=1):
        started = time.perf_counter()
        epochs = [_kept(result.metrics()) for result in train(config, splits=splits, num_threads=1)]
        seconds = round(time.perf_counter() - started, 3)
        line = {
            "settings": settings,
            "config": config.nested(),
            "epochs": epochs,
            "seconds": seconds,
        }
        with log.open("a", encoding="utf-8") as file:
            # The newline in front closes a line that an interruption cut off.
            file.write(f"\n{json.dumps(line)}\n")
        print(
            f"training {number} of {len(todo)}: {config.quantizer.name} {config.schedule.name} "
            f"lr {config.optimizer.lr:g} seed {config.seed}: "
            f"error {epochs[-1]['val_error']:.4f}, {seconds:.1f} s",
            flush=True,
        )


def _kept(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(metrics[name], 6) for name in KEPT if name in metrics}


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which trainings there are to be."""
    parser.add_argument("--space", type=Path, default=SPACES / "rungs_digits.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="as of sqtune search"
    )
    parser.add_argument("--data", type=Path, help="folder of images: trial.data.root")
    parser.add_argument("--train-images", type=int, help="by default all")
    parser.add_argument("--validation-images", type=int, help="by default all")
    parser.add_argument("--configurations", type=int, help="of the space; by default all")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each configuration")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--no-train", action="store_true", help="take what has been trained")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")


def trainings_of(options: argparse.Namespace) -> tuple[SearchSpace, list[Training]]:
    """Return the space and its trainings, after those that the log does not have yet.

    All configurations are trained from one seed, then from the next, so that what there is can be
    used at any time.
    """
    data = [] if options.data is None else [f"trial.data.root={options.data}"]
    space = load_space(options.space, [*options.set, *data])
    log = options.results / "rungs" / f"{space.name}.jsonl"
    if options.no_train:
        return space, finished(log)
    base = configurations(space, options.configurations, options.seed)
    splits = prepare(base[0].data, log.parent / "data" if options.data else None)
    splits = subset(splits, options.train_images, options.validation_images)
    settings = {
        "space": space.name,
        "images": [len(splits.train), len(splits.validation)],
        "threads": 1,
    }
    configs = [
        config.model_copy(update={"seed": seed}) for seed in range(options.seeds) for config in base
    ]
    run_all(configs, splits, settings, log)
    return space, finished(log, settings)


def facts(space: SearchSpace, trainings: Sequence[Training]) -> dict[str, Any]:
    """Return what a result says of its trainings."""
    seeds = sorted({training.config["seed"] for training in trainings})
    return {
        "space": space.model_dump(mode="json", by_alias=True, include={"trial", "space"}),
        "trainings": len(trainings),
        "configurations": len(by_configuration(trainings)),
        "seeds": seeds,
    }

"""Trainings of a space's configurations, whole and from several seeds; each is kept as it ends."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sqtune.config import SearchSpace, TrialConfig
from sqtune.config.parameters import ChoiceParameter, FloatParameter, IntParameter
from sqtune.data.split import Split, Splits
from sqtune.train.loop import train

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
    """Return all configurations of a finite space, or `num` different ones drawn at random.

    Raises:
        ValueError: The space is not finite, and `num` is None.
    """
    finite = all(isinstance(item, ChoiceParameter) for item in space.space.values())
    if finite:
        found = [space.config(values) for values in _combinations(space, {})]
        random.Random(seed).shuffle(found)
        return found[:num]
    if num is None:
        raise ValueError(f"{space.name} has ranges of numbers: say how many are to be drawn.")
    draws, drawn = random.Random(seed), dict[str, TrialConfig]()
    while len(drawn) < num:
        config = space.config(_draw(space, draws))
        drawn.setdefault(_key(config.nested()), config)
    return list(drawn.values())


def _combinations(space: SearchSpace, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, parameter in space.active(values):
        if path not in values:
            assert isinstance(parameter, ChoiceParameter)
            for value in parameter.choice:
                yield from _combinations(space, {**values, path: value})
            return
    yield values


def _draw(space: SearchSpace, draws: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, parameter in space.active(values):
        match parameter:
            case ChoiceParameter():
                values[path] = draws.choice(parameter.choice)
            case IntParameter(bounds=(low, high), step=step):
                values[path] = draws.randrange(low, high + 1, step)
            case FloatParameter(bounds=(low, high), log=log):
                share = draws.random()
                values[path] = low * (high / low) ** share if log else low + (high - low) * share
    return values


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
    """Leave out what says nothing before rows are quantized: the error with all of them so."""
    names = [name for name in KEPT if metrics["ratio"] > 0 or name != "val_error"]
    return {name: round(metrics[name], 6) for name in names}


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)

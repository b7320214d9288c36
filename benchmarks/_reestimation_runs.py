"""Training runs that look at batch norm after every epoch; each is kept as it ends."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sqtune.config import TrialConfig
from sqtune.data.batches import Normalize, training_batches
from sqtune.data.split import Splits
from sqtune.networks import build
from sqtune.quant import epoch_ratio
from sqtune.train.checkpoint import quantization_of
from sqtune.train.evaluate import error_rate, reestimated_batch_norm
from sqtune.train.optim import build_optimizer, set_learning_rate

SCHEDULES = ("exponential", "average", "linear")
QUANTIZERS: tuple[dict[str, Any], ...] = (
    {"name": "binary"},
    {"name": "ternary"},
    {"name": "uniform", "bits": 2},
)
LEARNING_RATES = (0.01, 0.03, 0.1, 0.2)
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Epoch:
    """Validation errors (0..1) after an epoch.

    Attributes:
        ratio: Share of the filters that was quantized in it.
        reestimated: All weights quantized, batch norm re-estimated for them.
        as_trained: All weights quantized, batch norm's statistics as training left them.
        hybrid: The hybrid network that is being trained.
    """

    ratio: float
    reestimated: float
    as_trained: float
    hybrid: float


@dataclass(frozen=True, slots=True)
class Run:
    """A configuration and what was seen of it, one entry an epoch."""

    config: dict[str, Any]
    epochs: tuple[Epoch, ...]

    @property
    def final(self) -> float:
        """The last epoch's error: all weights quantized, trained so."""
        return self.epochs[-1].as_trained

    def at(self, progress: float) -> Epoch:
        """Return the epoch that ended at a progress in (0, 1], or last before it."""
        return self.epochs[max(0, int(progress * len(self.epochs) + 1e-9) - 1)]


def configurations(base: TrialConfig, num: int, seed: int) -> list[TrialConfig]:
    """Return different choices of schedule, quantizer and learning rate, each with its own seed."""
    choices = list(itertools.product(SCHEDULES, QUANTIZERS, LEARNING_RATES))
    random.Random(seed).shuffle(choices)
    drawn = itertools.islice(itertools.cycle(choices), num)
    return [
        base.model_validate(
            base.nested()
            | {"schedule": {"name": schedule}, "quantizer": quantizer, "seed": seed + number}
            | {"optimizer": base.optimizer.model_dump(mode="json") | {"lr": lr}},
            strict=False,  # JSON has lists where the configuration has tuples
        )
        for number, (schedule, quantizer, lr) in enumerate(drawn)
    ]


def finished_runs(log: Path, settings: dict[str, Any]) -> list[Run]:
    """Return the runs a log has from these settings; a line that was cut off is passed over."""
    runs = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            kept = json.loads(line)
        except json.JSONDecodeError:
            continue
        if kept["settings"] == settings:
            runs.append(Run(kept["config"], tuple(Epoch(**epoch) for epoch in kept["epochs"])))
    return runs


class Network:
    """A network in training, on CPU: weights, optimizer and quantization of one configuration."""

    def __init__(self, config: TrialConfig, splits: Splits) -> None:
        torch.manual_seed(config.seed)
        self.config, self.splits = config, splits
        self.model: nn.Module = build(config.network, splits.num_channels, len(splits.classes))
        draws = torch.Generator().manual_seed(config.seed)
        self.quantization = quantization_of(self.model, config, draws)
        learned = self.quantization.parameters()
        self.optimizer = build_optimizer(self.model.parameters(), learned, config.optimizer)
        self.normalize = Normalize(splits.mean, splits.std, CPU)
        self._order = torch.Generator().manual_seed(config.seed)

    def steps(self, ratio: float) -> Iterator[int]:
        """Train one epoch and yield after each step; the learning rate is whatever was set."""
        data = self.config.data
        batches = training_batches(
            self.splits.train,
            self.config.batch_size,
            crop_padding=data.crop_padding,
            mirror=data.mirror,
            device=CPU,
            generator=self._order,
        )
        self.model.train()
        for number, (images, labels) in enumerate(batches):
            self.optimizer.zero_grad()
            with self.quantization.hybrid(ratio=ratio):
                logits = self.model(self.normalize(images))
                functional.cross_entropy(logits, labels).backward()
            self.optimizer.step()
            yield number

    def error(self) -> float:
        """Return the validation error (0..1) of the model as it stands."""
        return error_rate(self.model, self.splits.validation, self.normalize, CPU)

    def reestimated(self) -> Any:
        """Return a block in which batch norm has the statistics of the weights as they stand."""
        return reestimated_batch_norm(
            self.model,
            self.splits.train,
            self.normalize,
            batch_size=self.config.batch_size,
            device=CPU,
        )


def train(config: TrialConfig, splits: Splits) -> Run:
    """Train one configuration and look at it after every epoch."""
    network, epochs = Network(config, splits), []
    num_epochs = config.num_epochs
    steps_per_epoch = len(splits.train) // config.batch_size
    for epoch in range(1, num_epochs + 1):
        ratio = epoch_ratio(config.schedule, epoch, num_epochs)
        lr_progress = (epoch - 1) / num_epochs
        set_learning_rate(network.optimizer, config.optimizer, lr_progress)
        for step in network.steps(ratio):
            progress = lr_progress + (step + 1) / (steps_per_epoch * num_epochs)
            set_learning_rate(network.optimizer, config.optimizer, progress)
        with network.quantization.hybrid(ratio=ratio, redraw=False):
            hybrid = network.error()
        with network.quantization.quantized():
            as_trained = network.error()
            with network.reestimated():
                reestimated = network.error()
        epochs.append(Epoch(ratio, reestimated, as_trained, hybrid))
    return Run(config.nested(), tuple(epochs))

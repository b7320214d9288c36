"""The training loop: `for result in train(config): ...`; knows nothing of Ray, Optuna or MLflow."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sqtune.config.trial import TrialConfig
from sqtune.data.batches import training_batches
from sqtune.data.split import Splits, prepare
from sqtune.errors import QuantizationError, TrainingError
from sqtune.networks import build, check_image_size
from sqtune.quant import epoch_ratio
from sqtune.train.checkpoint import About, load_network, quantization_of, save_network
from sqtune.train.compute import computing_on
from sqtune.train.distill import SoftTargets
from sqtune.train.evaluate import error_rate, reestimated_batch_norm
from sqtune.train.history import LayerHistory
from sqtune.train.optim import build_optimizer, learning_rate_span, set_learning_rate
from sqtune.train.result import METRICS, EpochResult
from sqtune.train.start import load_start

__all__ = ["METRICS", "EpochResult", "saved_error", "train"]


def train(
    config: TrialConfig,
    *,
    splits: Splits | None = None,
    device: str = "cpu",
    num_threads: int | None = None,
    save_to: Path | None = None,
) -> Iterator[EpochResult]:
    """Train one network with Stochastic Quantization and yield a result after each epoch.

    On CPU the results depend on the configuration, the versions and the number of threads only,
    not on what ran before in the process; torch's global generator is left as it was.

    Args:
        config: What to train.
        splits: The data, when they are at hand; otherwise read as `config.data` says.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: CPU threads of torch; None leaves them as they are.
        save_to: Folder for the trained network (`sqtune.train.checkpoint`), written before the
            last result is yielded.

    Raises:
        TrainingError: The loss is no longer finite.
        NetworkError: The images are too small for the network.
        DataError: The data cannot be read.
        StoreError: The weights to start from, or the teacher, cannot be read or do not fit.
    """
    target = torch.device(device)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    splits = (splits or prepare(config.data)).to(target)
    check_image_size(config.network, *splits.image_size)
    trainer = _Training(config, splits, target)
    for epoch in range(1, config.num_epochs + 1):
        if num_threads is not None:
            torch.set_num_threads(num_threads)  # whoever shares the process may have changed it
        with _own_randomness(config.seed, epoch, target), _single_images_explained(config):
            result = trainer.run_epoch(epoch)
        if result.final and save_to is not None:
            about = _about(splits, result)
            save_network(
                save_to, config, about, trainer.model, trainer.quantization, trainer.history
            )
        yield result


def check_start(config: TrialConfig, splits: Splits) -> None:
    """Do what a training does before its first step with the weights it reads.

    Raises:
        StoreError: Weights to start from, or the teacher, cannot be read or do not fit.
        NetworkError: The images do not suit the network.
        QuantizationError: A rule acts on no layer.
    """
    _Training(config, splits, torch.device("cpu"))


class _Training:
    """The state of one training run: network, optimizer, quantization and their generators."""

    def __init__(self, config: TrialConfig, splits: Splits, device: torch.device) -> None:
        self.config, self.splits, self.device = config, splits, device
        with _own_randomness(config.seed, 0, device):
            model = build(
                config.network, splits.num_channels, len(splits.classes), splits.image_size
            )
        if config.start is not None:
            load_start(model, config.start)
        self.computing = computing_on(device, config.compute)
        self.model = self.computing.place(model)
        self.inputs = self.computing.inputs(splits.mean, splits.std)
        self.order = torch.Generator(splits.train.labels.device)
        self.order.manual_seed(_seed(config.seed, "order"))
        draws = torch.Generator(device).manual_seed(_seed(config.seed, "selection"))
        self.quantization = quantization_of(self.model, config, draws)
        self.quantization.diagnostics()  # changes count from the fresh weights on
        self.history = LayerHistory()
        learned = self.quantization.parameters()
        self.optimizer = build_optimizer(self.model.parameters(), learned, config.optimizer)
        self.soft_targets = SoftTargets(config, self.model, splits, self.inputs, self.computing)
        self.forward = self.computing.compiled(self.model)  # for steps; what is measured is plain

    def run_epoch(self, epoch: int) -> EpochResult:
        config = self.config
        is_float = not self.quantization.quantizers
        ratio = 0.0 if is_float else epoch_ratio(config.schedule, epoch, config.num_epochs)
        self.soft_targets.begin_epoch(ratio, self.model)
        when = f"in epoch {epoch} of {config.num_epochs} (optimizer.lr is {config.optimizer.lr:g})"
        try:
            train_loss, lr, images_per_second = self._train_epoch(epoch, ratio)
        except QuantizationError as error:
            raise TrainingError(f"{when}: {error}") from error
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"the training loss became {train_loss} {when}. Lower the learning rate."
            )
        quantization_error, changed_rows = self.history.add(self.quantization.diagnostics())
        with self.quantization.hybrid(ratio=ratio, redraw=False):
            val_error_hybrid = self._validation_error()
        return EpochResult(
            epoch=epoch,
            num_epochs=config.num_epochs,
            train_loss=train_loss,
            val_error=val_error_hybrid if is_float or ratio == 1 else self._quantized_error(),
            val_error_hybrid=val_error_hybrid,
            ratio=ratio,
            lr=lr,
            quantization_error=quantization_error,
            changed_rows=changed_rows,
            images_per_second=images_per_second,
            final=epoch == config.num_epochs,
        )

    def _train_epoch(self, epoch: int, ratio: float) -> tuple[float, float, float]:
        """Train one epoch; return mean loss, last learning rate and images a second."""
        config, train = self.config, self.splits.train
        first_epoch, num_epochs = learning_rate_span(
            config.optimizer, config.schedule, epoch, config.num_epochs
        )
        steps_per_epoch = len(train) // min(config.batch_size, len(train))
        num_steps = steps_per_epoch * num_epochs
        step = (epoch - first_epoch) * steps_per_epoch
        loss_sum = torch.zeros((), device=self.device)
        lr, num_images, started = 0.0, 0, time.perf_counter()
        self.model.train()
        batches = training_batches(
            train,
            config.batch_size,
            crop_padding=config.data.crop_padding,
            mirror=config.data.mirror,
            device=self.device,
            generator=self.order,
        )
        for images, labels in batches:  # nothing in here waits for the device
            lr = set_learning_rate(self.optimizer, config.optimizer, step / num_steps)
            self.optimizer.zero_grad()
            with self.quantization.hybrid(ratio=ratio):
                loss = self._loss(images, labels)
                loss.backward()
            self.optimizer.step()
            loss_sum += loss.detach()
            num_images += len(labels)
            step += 1
        train_loss = float(loss_sum) / steps_per_epoch  # waits for the device
        return train_loss, lr, num_images / (time.perf_counter() - started)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss that is optimised, in float32 whatever the network computes in."""
        with self.computing.autocast():
            logits = self.forward(self.inputs(images)).float()
        cross_entropy = functional.cross_entropy(logits, labels)
        return self.soft_targets.loss(cross_entropy, logits, images)

    def _validation_error(self) -> float:
        with self.computing.autocast():
            return error_rate(self.model, self.splits.validation, self.inputs, self.device)

    def _quantized_error(self) -> float:
        with (
            self.computing.autocast(),
            self.quantization.quantized(),
            reestimated_batch_norm(
                self.model,
                self.splits.train,
                self.inputs,
                batch_size=self.config.batch_size,
                device=self.device,
            ),
        ):
            return self._validation_error()


def _seed(seed: int, role: str) -> int:
    """Return a seed for one role, unrelated to those of other roles and neighbouring seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{role}".encode()).digest()[:7], "big")


@contextmanager
def _own_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for the block (fresh weights, dropout); restore them after."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(_seed(seed, f"epoch {epoch}"))
        yield


@contextmanager
def _single_images_explained(config: TrialConfig) -> Iterator[None]:
    """Turn batch norm's own error on batches of one value a channel into ours."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"batch norm sees one value a channel in training batches of {config.batch_size} "
            f"images. Give trial.batch_size=2 or more (it is {config.batch_size}; there are no "
            "more images in a batch than in the training split)."
        ) from error


def _about(splits: Splits, result: EpochResult) -> About:
    return About(
        classes=splits.classes,
        num_channels=splits.num_channels,
        image_size=splits.image_size,
        mean=splits.mean,
        std=splits.std,
        data_fingerprint=splits.fingerprint,
        result=asdict(result),
    )


def saved_error(folder: Path, splits: Splits, part: str) -> float:
    """Return the error (0..1) of a saved network, all weights quantized, on one part of the data.

    It is measured on the CPU, as `compute` in its configuration says for one.

    Args:
        folder: What `train(save_to=...)` wrote.
        splits: The data.
        part: "validation" or "test".
    """
    saved = load_network(folder)
    device = torch.device("cpu")
    computing = computing_on(device, saved.config.compute)
    model = computing.place(saved.model)
    inputs = computing.inputs(saved.about.mean, saved.about.std)
    split: Any = getattr(splits, part)
    with computing.autocast(), saved.quantization.quantized():
        return error_rate(model, split, inputs, device)

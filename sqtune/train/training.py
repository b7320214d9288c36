"""One training run: network, optimizer, quantization and their generators, epoch by epoch."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from sqtune.config.trial import TrialConfig
from sqtune.data.batches import training_batches
from sqtune.data.split import Splits
from sqtune.errors import QuantizationError, TrainingError
from sqtune.networks import build
from sqtune.quant import epoch_ratio
from sqtune.train.average import Average
from sqtune.train.checkpoint import quantization_of
from sqtune.train.compute import computing_on
from sqtune.train.distill import SoftTargets
from sqtune.train.evaluate import error_rate, reestimated_batch_norm
from sqtune.train.history import LayerHistory
from sqtune.train.optim import (
    bound_gradients,
    build_optimizer,
    learning_rate_span,
    load_optimizer_state,
    optimizer_state,
    set_learning_rate,
)
from sqtune.train.regularize import Examples, Regularizer
from sqtune.train.result import EpochResult, at_ratio_0
from sqtune.train.start import load_start


class Training:
    """The state of one training run; `run_epoch` takes it an epoch further.

    Args:
        config: What to train.
        splits: The data, on `device` or beside it.
        device: Where the network is.

    Raises:
        StoreError: The weights to start from, or the teacher, cannot be read or do not fit.
        NetworkError: The images do not suit the network.
        QuantizationError: A rule acts on no layer.
        ConfigError: What is cut out covers whole images.
    """

    def __init__(self, config: TrialConfig, splits: Splits, device: torch.device) -> None:
        self.config, self.splits, self.device = config, splits, device
        config.regularization.check_image_size(*splits.image_size)
        with own_randomness(config.seed, 0, device):
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
        self.is_float = not self.quantization.quantizers
        self.history = LayerHistory()
        learned = self.quantization.parameters()
        self.optimizer = build_optimizer(self.model.parameters(), learned, config.optimizer)
        self.average = Average(config.ema.decay, self.model, learned)
        self.regularizer = Regularizer(config.regularization, splits.mean, device)
        self.soft_targets = SoftTargets(config, self.model, splits, self.inputs, self.computing)
        self.forward = self.computing.compiled(self.model)  # for steps; what is measured is plain

    def run_epoch(self, epoch: int) -> EpochResult:
        """Train the epoch after the last one and measure what came of it.

        Raises:
            TrainingError: The loss, or an output, is no longer finite.
        """
        config = self.config
        when = f"in epoch {epoch} of {config.num_epochs} (optimizer.lr is {config.optimizer.lr:g})"
        ratio = self._ratio(epoch)
        with own_randomness(config.seed, epoch, self.device), single_images_explained(config):
            try:
                self._begin_epoch(epoch, ratio)
                train_loss, lr, images_per_second = self._train_epoch(epoch, ratio)
            except QuantizationError as error:
                raise TrainingError(f"{when}: {error}") from error
            if not math.isfinite(train_loss):
                raise TrainingError(
                    f"the training loss became {train_loss} {when}. Lower the learning rate."
                )
            self._give_average_statistics(ratio)
            with self.average.in_place():
                measured = self._measured(ratio)
            return EpochResult(
                epoch=epoch,
                num_epochs=config.num_epochs,
                train_loss=train_loss,
                ratio=ratio,
                lr=lr,
                images_per_second=images_per_second,
                final=epoch == config.num_epochs,
                **measured,
            )

    def _ratio(self, epoch: int) -> float:
        """Return an epoch's ratio; 0 for epoch 0, before the first."""
        if self.is_float or epoch == 0:
            return 0.0
        return epoch_ratio(self.config.schedule, epoch, self.config.num_epochs)

    def _begin_epoch(self, epoch: int, ratio: float) -> None:
        first_quantized = ratio > 0 and self._ratio(epoch - 1) == 0
        if first_quantized:
            self.quantization.codes()  # steps that are learned begin with the weights as they are
        with self.average.in_place():
            self.soft_targets.begin_epoch(ratio, self.model)
            if first_quantized:
                self.quantization.diagnostics()  # changes count from here on

    def _give_average_statistics(self, ratio: float) -> None:
        """Give the average, if one is kept, the batch norm statistics of its hybrid network."""
        if self.average.is_kept:
            with (
                self.computing.autocast(),
                self.average.in_place(),
                self.quantization.hybrid(ratio=ratio, redraw=False),
                self._own_statistics(),
            ):
                self.average.take_statistics()

    def _measured(self, ratio: float) -> dict[str, Any]:
        """Return what is measured at an epoch's end, by field."""
        if ratio > 0:
            error, changed = self.history.add(self.quantization.diagnostics())
        else:
            self.history.add_float()
        with self.quantization.hybrid(ratio=ratio, redraw=False):
            val_error_hybrid = self._validation_error()
        if ratio == 0:
            fields = at_ratio_0(val_error_hybrid, is_float=self.is_float)
            return {"val_error_hybrid": val_error_hybrid, **fields}
        return {
            "val_error_hybrid": val_error_hybrid,
            "val_error": val_error_hybrid if ratio == 1 else self._quantized_error(),
            "quantization_error": error,
            "changed_rows": changed,
        }

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """Return what a continuation after `epoch`, the last one trained, needs.

        In a float warm-up nothing in it depends on the quantizer.
        """
        started = self._ratio(epoch) > 0
        return {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "average": self.average.state_dict(),
            "order": self.order.get_state(),
            "quantization": self.quantization.state_dict() if started else None,
            "teacher": self.soft_targets.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned.

        Raises:
            KeyError, RuntimeError or QuantizationError: It is another training's; this one is of no
                use then.
        """
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.order.set_state(state["order"])
        if state["quantization"] is not None:
            self.quantization.load_state_dict(state["quantization"])
        self.soft_targets.load_state_dict(state["teacher"], self.model)
        self.history.load_state_dict(state["history"])

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
        self.regularizer.begin_epoch(_seed(config.seed, f"regularization {epoch}"))
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
                loss = self._loss(self.regularizer.examples(images, labels))
                loss.backward()
            bound_gradients(self.quantization.parameters())
            self.optimizer.step()
            self.average.step(quantized=ratio > 0)
            loss_sum += loss.detach()
            num_images += len(labels)
            step += 1
        train_loss = float(loss_sum) / steps_per_epoch  # waits for the device
        return train_loss, lr, num_images / (time.perf_counter() - started)

    def _loss(self, examples: Examples) -> Tensor:
        """Return the loss that is optimised, in float32 whatever the network computes in."""
        with self.computing.autocast():
            logits = self.forward(self.inputs(examples.images)).float()
        cross_entropy = self.regularizer.loss(logits, examples)
        return self.soft_targets.loss(cross_entropy, logits, examples.images)

    def _validation_error(self) -> float:
        with self.computing.autocast():
            return error_rate(self.model, self.splits.validation, self.inputs, self.device)

    def _quantized_error(self) -> float:
        with (
            self.computing.autocast(),
            self.quantization.quantized(),
            self._own_statistics(),
        ):
            return self._validation_error()

    def _own_statistics(self) -> AbstractContextManager[None]:
        return reestimated_batch_norm(
            self.model,
            self.splits.train,
            self.inputs,
            batch_size=self.config.batch_size,
            device=self.device,
        )


def _seed(seed: int, role: str) -> int:
    """Return a seed for one role, unrelated to those of other roles and neighbouring seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{role}".encode()).digest()[:7], "big")


@contextmanager
def own_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for the block (fresh weights, dropout); restore them after."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(_seed(seed, f"epoch {epoch}"))
        yield


@contextmanager
def single_images_explained(config: TrialConfig) -> Iterator[None]:
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

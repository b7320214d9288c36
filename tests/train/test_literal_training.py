"""The training loop does what a literal loop, written out here, does: the same bits.

The loop below knows nothing of sqtune but its networks and its data. It quantizes every weight
(ratio 1), or none (ratio 0), so that nothing is drawn.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sqtune.config import TrialConfig
from sqtune.config.training import Constant, Cosine, Optimizer, Steps
from sqtune.data import Digits
from sqtune.networks import ResNet, build
from sqtune.quant import Binary, Exponential, Float, Selection, Stages
from sqtune.train.loop import train
from sqtune.train.training import Training

BATCH_SIZE = 128


def config(**changes) -> TrialConfig:
    settings = {
        "data": Digits(crop_padding=0),
        "network": ResNet("resnet8", 4),
        "batch_size": BATCH_SIZE,
        "num_epochs": 2,
        **changes,
    }
    return TrialConfig(**settings)


def seed_of(seed: int, role: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{role}".encode()).digest()[:7], "big")


def fresh_model(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "epoch 0"))
        return build(ResNet("resnet8", 4), 1, 10)


def quantizable(model: nn.Module) -> list[Tensor]:
    kinds = (nn.Conv2d, nn.Linear)
    return [module.weight.data for module in model.modules() if isinstance(module, kinds)]


def binarised(weight: Tensor) -> Tensor:
    rows = weight.flatten(1)
    signs = torch.where(rows >= 0, 1.0, -1.0)
    return (signs * rows.abs().mean(dim=1, keepdim=True)).reshape(weight.shape)


@dataclass
class Literal:
    """Plain training, epoch by epoch, of a float or a binary network."""

    digits: object
    seed: int = 0
    lr: float = 0.1
    num_epochs: int = 2

    def __post_init__(self):
        self.model = fresh_model(self.seed)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=self.lr, momentum=0.9, weight_decay=1e-4
        )
        self.order = torch.Generator().manual_seed(seed_of(self.seed, "order"))
        self.step = 0

    def inputs(self, images: Tensor) -> Tensor:
        mean, std = torch.tensor(self.digits.mean), torch.tensor(self.digits.std)
        return (images.float() - 255 * mean) * (1 / (255 * std))

    def epoch(self, *, binary: bool) -> float:
        """Train an epoch and return its mean loss."""
        train = self.digits.train
        order, losses = torch.randperm(len(train), generator=self.order), torch.zeros(())
        num_batches = len(train) // BATCH_SIZE
        self.model.train()
        for batch in range(num_batches):
            ids = order[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]
            progress = self.step / (num_batches * self.num_epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * progress))
            self.optimizer.zero_grad()
            latent = self.quantize() if binary else None
            logits = self.model(self.inputs(train.images[ids]))
            loss = functional.cross_entropy(logits, train.labels[ids])
            loss.backward()
            if latent is not None:
                self.put(latent)
            self.optimizer.step()
            losses += loss.detach()
            self.step += 1
        return float(losses) / num_batches

    def quantize(self) -> list[Tensor]:
        """Binarise the weights; return what they were."""
        latent = [weight.clone() for weight in quantizable(self.model)]
        self.put([binarised(weight) for weight in latent])
        return latent

    def put(self, weights: list[Tensor]) -> None:
        for weight, value in zip(quantizable(self.model), weights, strict=True):
            weight.copy_(value)

    def error(self) -> float:
        self.model.eval()
        with torch.no_grad():
            guesses = self.model(self.inputs(self.digits.validation.images)).argmax(dim=1)
        return int((guesses != self.digits.validation.labels).sum()) / len(guesses)

    def quantized_error(self) -> float:
        """Return the error of the binarised network with statistics of its own."""
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]
        self.quantize()
        num_batches = len(self.digits.train) // 4 // BATCH_SIZE
        stride = len(self.digits.train) // (num_batches * BATCH_SIZE)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.model.train()
        with torch.no_grad():
            for first in range(num_batches):
                ids = slice(first * stride, None, num_batches * stride)
                self.model(self.inputs(self.digits.train.images[ids][:BATCH_SIZE]))
        return self.error()


@pytest.mark.parametrize("seed", [0, 7])
def test_float_training_is_a_literal_loop_bit_for_bit(digits, seed):
    literal = Literal(digits, seed)
    for result in train(config(quantizer=Float(), seed=seed), splits=digits):
        assert result.train_loss == literal.epoch(binary=False)
        assert result.val_error == result.val_error_hybrid == literal.error()
        assert (result.ratio, result.quantization_error) == (0, 0)


def test_binary_training_at_ratio_1_is_a_literal_loop_bit_for_bit(digits):
    literal = Literal(digits)
    for result in train(config(quantizer=Binary(), schedule=Stages()), splits=digits):
        assert result.train_loss == literal.epoch(binary=True)
        latent = literal.quantize()
        assert result.val_error == result.val_error_hybrid == literal.error()
        literal.put(latent)


def test_a_warm_up_is_float_training_and_tells_nothing_of_the_quantizer(digits):
    literal = Literal(digits)
    warm_up = Stages(ratios=(0.0, 1.0))
    result = next(train(config(quantizer=Binary(), schedule=warm_up), splits=digits))
    assert result.ratio == 0
    assert result.train_loss == literal.epoch(binary=False)
    assert result.val_error_hybrid == literal.error()
    assert result.val_error is result.quantization_error is result.changed_rows is None
    assert {"val_error", "quantization_error", "changed_rows"}.isdisjoint(result.metrics())


def test_the_quantized_error_has_batch_norm_statistics_of_its_own(digits):
    literal = Literal(digits)
    half = config(quantizer=Binary(), schedule=Stages(ratios=(0.5, 1.0)))
    training = Training(half, digits, torch.device("cpu"))
    result = training.run_epoch(1)
    literal.model.load_state_dict(training.model.state_dict())
    assert result.val_error == literal.quantized_error() != result.val_error_hybrid


def test_the_selection_is_without_effect_where_everything_is_quantized(digits):
    def losses(selection, schedule):
        results = train(config(selection=selection, schedule=schedule), splits=digits)
        return [(result.train_loss, result.val_error) for result in results]

    ways = [
        Selection(),
        Selection("constant"),
        Selection(strategy="deterministic"),
        Selection(granularity="element"),
    ]
    assert len({tuple(losses(way, Stages())) for way in ways}) == 1
    assert len({tuple(losses(way, Exponential())) for way in ways}) == len(ways)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), [0.2, 0.2, 0.2, 0.2]),
        (Steps(milestones=(0.25, 0.5), gamma=0.5), [0.2, 0.1, 0.05, 0.05]),
        (Cosine(), [0.1 * (1 + math.cos(math.pi * (8 * k - 1) / 32)) for k in (1, 2, 3, 4)]),
    ],
    ids=["constant", "steps", "cosine"],
)
def test_an_epoch_s_learning_rate_is_that_of_its_last_step(digits, schedule, expected):
    optimizer = Optimizer(lr=0.2, schedule=schedule)
    results = train(config(optimizer=optimizer, num_epochs=4), splits=digits)  # 8 steps an epoch
    assert [result.lr for result in results] == pytest.approx(expected, rel=1e-12)


def test_adamw_is_torch_s(digits):
    optimizer = Optimizer(name="adamw", lr=0.01, momentum=0.8, weight_decay=0.1)
    literal = Literal(digits, lr=0.01)
    literal.optimizer = torch.optim.AdamW(
        literal.model.parameters(), lr=0.01, betas=(0.8, 0.999), weight_decay=0.1
    )
    for result in train(config(quantizer=Float(), optimizer=optimizer), splits=digits):
        assert result.train_loss == literal.epoch(binary=False)


def test_nesterov_s_momentum_without_decay_of_batch_norm_is_torch_s(digits):
    optimizer = Optimizer(nesterov=True, decay="weights", weight_decay=0.01)
    literal = Literal(digits)
    parameters = list(literal.model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    literal.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    for result in train(config(quantizer=Float(), optimizer=optimizer), splits=digits):
        assert result.train_loss == literal.epoch(binary=False)

"""Smoothed and mixed labels: the loss by hand, in a real training too; off, nothing is drawn."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import pytest
import torch
from torch import Tensor, nn

from sqtune.config import TrialConfig
from sqtune.config.training import Compute, Distillation, Regularization, Start
from sqtune.data import Digits
from sqtune.data.augment import cut_out, erase, mixed, mixing_shares
from sqtune.data.batches import Normalize
from sqtune.errors import ConfigError
from sqtune.networks import ResNet, build
from sqtune.quant import Float
from sqtune.train.loop import check_start, train
from sqtune.train.regularize import Examples, Regularizer
from sqtune.train.training import Training

CPU = torch.device("cpu")
NETWORK = ResNet("resnet8", 2)
ALL = Regularization(label_smoothing=0.1, mixup=0.5, cutout=3, random_erasing=0.5)


def config(**changes) -> TrialConfig:
    values = {
        "data": Digits(crop_padding=0),
        "network": NETWORK,
        "quantizer": Float(),
        "batch_size": 1078,  # all of them: one step, no update before the loss
        "num_epochs": 1,
        **changes,
    }
    return TrialConfig(**values)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(NETWORK, 1, 10)


def seed_of(role: str) -> int:
    return int.from_bytes(hashlib.sha256(f"0:{role}".encode()).digest()[:7], "big")


def regularizer(spec: Regularization, mean=(0.3,)) -> Regularizer:
    made = Regularizer(spec, mean, CPU)
    made.begin_epoch(3)
    return made


def entropies(logits: Tensor, target: Tensor) -> Tensor:
    """Return - sum target * log p of each row, in float64."""
    logs = logits.double() - logits.double().exp().sum(dim=1, keepdim=True).log()
    return -(target.double() * logs).sum(dim=1)


def one_hot(labels: list[int], num_classes: int) -> Tensor:
    return torch.tensor([[float(k == label) for k in range(num_classes)] for label in labels])


def test_a_smoothed_label_gives_a_share_to_all_classes():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = [0, 3, 1, 1, 2]
    target = 0.8 * one_hot(labels, 4) + 0.2 / 4
    found = regularizer(Regularization(label_smoothing=0.2)).loss(
        logits, Examples(torch.empty(0), torch.tensor(labels))
    )
    assert float(found) == pytest.approx(float(entropies(logits, target).mean()), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_mixed_label_is_a_share_of_the_own_and_of_that_before(smoothing):
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, share = [0, 2, 1, 1], torch.tensor([0.1, 0.9, 0.5, 1.0])
    own, before = one_hot(labels, 3), one_hot([1, 0, 2, 1], 3)
    target = share[:, None] * own + (1 - share[:, None]) * before
    target = (1 - smoothing) * target + smoothing / 3
    found = regularizer(Regularization(label_smoothing=smoothing, mixup=1.0)).loss(
        logits, Examples(torch.empty(0), torch.tensor(labels), share)
    )
    assert float(found) == pytest.approx(float(entropies(logits, target).mean()), rel=1e-5)


def test_what_is_off_draws_nothing_and_passes_on_the_very_tensors():
    images, labels = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3)
    off = regularizer(Regularization())
    before = off._generator.get_state()
    examples = off.examples(images, labels)
    assert examples.images is images
    assert examples.labels is labels
    assert examples.share_N is None
    regularizer(Regularization(label_smoothing=0.5)).examples(images, labels)
    assert torch.equal(off._generator.get_state(), before)


def test_the_filling_is_normalised_to_0(digits):
    black = torch.zeros(50, 1, 8, 8, dtype=torch.uint8)
    cut = regularizer(Regularization(cutout=3), digits.mean).examples(black, torch.zeros(50))
    values = Normalize(digits.mean, digits.std, CPU)(cut.images).unique()
    assert len(values) == 2  # what was black, and the filling
    assert float(values[1]) == pytest.approx(0, abs=0.5 / 255 / digits.std[0] + 1e-6)


def test_a_training_s_loss_is_that_of_the_regularised_images_and_the_teacher_sees_them(
    digits, tmp_path
):
    torch.save(network(1).state_dict(), tmp_path / "start.pt")
    sure = network(7)
    with torch.no_grad():
        sure.head.weight.mul_(50)  # so that what it sees makes a difference
    torch.save(sure.state_dict(), tmp_path / "teacher.pt")
    settings = config(
        regularization=ALL,
        start=Start(weights=str(tmp_path / "start.pt")),
        distillation=Distillation(weight=0.4, teacher=str(tmp_path / "teacher.pt")),
    )
    [result] = train(settings, splits=digits, num_threads=1)
    count = len(digits.train)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of("order")))
    images, labels = digits.train.images[order], digits.train.labels[order]
    draws = torch.Generator().manual_seed(seed_of("regularization 1"))
    fill = torch.full((1, 1, 1), round(255 * digits.mean[0]), dtype=torch.uint8)
    images = erase(cut_out(images, 3, fill, draws), 0.5, fill, draws)
    share = mixing_shares(count, 0.5, draws)
    inputs = (mixed(images, share) / 255 - digits.mean[0]) / digits.std[0]
    with torch.no_grad():
        logits, taught = network(1)(inputs).double(), sure.eval()(inputs).double()
    own = one_hot(labels.tolist(), 10)
    target = 0.9 * (share[:, None] * own + (1 - share[:, None]) * own.roll(1, 0)) + 0.01
    hard = entropies(logits, target).mean()
    p, q = (taught / 4).softmax(dim=1), (logits / 4).softmax(dim=1)
    soft = 16 * (p * (p.log() - q.log())).sum(dim=1).mean()
    assert result.train_loss == pytest.approx(float(0.6 * hard + 0.4 * soft), rel=1e-5)


def figures(digits, **changes):
    results = train(config(batch_size=256, **changes), splits=digits, num_threads=1)
    return [dataclasses.replace(result, images_per_second=0.0) for result in results]


@pytest.mark.parametrize(
    "spec",
    [
        Regularization(label_smoothing=0.1),
        Regularization(mixup=0.2),
        Regularization(cutout=2),
        Regularization(random_erasing=0.5),
    ],
    ids=str,
)
def test_each_acts_and_is_the_same_again(digits, spec):
    first = figures(digits, regularization=spec, num_epochs=2)
    assert first == figures(digits, regularization=spec, num_epochs=2)
    assert first[0].train_loss != figures(digits)[0].train_loss
    assert all(math.isfinite(result.train_loss) for result in first)


def test_every_epoch_draws_anew_and_the_order_stays(digits, monkeypatch):
    seen = []
    plain = Regularizer.examples

    def recorded(self, images, labels):
        seen.append((plain(self, images, labels), images))
        return seen[-1][0]

    monkeypatch.setattr(Regularizer, "examples", recorded)
    figures(digits, num_epochs=2)
    without = [images for _, images in seen]
    seen.clear()
    figures(digits, num_epochs=2, regularization=ALL)
    assert all(torch.equal(a, b) for (_, a), b in zip(seen, without, strict=True))
    assert len({tuple(examples.share_N.tolist()) for examples, _ in seen}) == len(seen) == 8


def test_a_square_that_can_cover_whole_images_is_refused(digits):
    assert Training(config(regularization=Regularization(cutout=7)), digits, CPU)
    for side in (8, 1024):
        with pytest.raises(ConfigError, match=rf"a square of {side} x {side} .*cutout.* below 8"):
            check_start(config(regularization=Regularization(cutout=side)), digits)


def test_mixed_images_keep_the_memory_format(digits):
    training = Training(config(compute=Compute(channels_last="on")), digits, CPU)
    images = mixed(digits.train.images[:4].expand(4, 3, 8, 8), torch.ones(4))
    assert training.inputs(images).is_contiguous(memory_format=torch.channels_last)

"""Restarts of the learning rate: exact values at each step; weights and momentum go on."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sqtune.config import TrialConfig
from sqtune.config.training import Constant, Cosine, Optimizer, Steps
from sqtune.networks import ResNet
from sqtune.quant import Average, Binary, Exponential, Float, Linear, Stages
from sqtune.train import loop, training

STEPS = 4  # an epoch: 1,078 digits in batches of 256


def config(**changes) -> TrialConfig:
    settings = {"network": ResNet("resnet8", 2), "batch_size": 256, "num_epochs": 4, **changes}
    return TrialConfig(**settings)


def rates(digits, monkeypatch, **changes) -> list[float]:
    """Return the learning rate of every step, as the optimizer gets it."""
    seen = []
    plain = training.set_learning_rate

    def recorded(optimizer, spec, progress):
        plain(optimizer, spec, progress)
        seen.append(optimizer.param_groups[0]["lr"])
        return seen[-1]

    monkeypatch.setattr(training, "set_learning_rate", recorded)
    results = list(loop.train(config(**changes), splits=digits, num_threads=1))
    assert [result.lr for result in results] == seen[STEPS - 1 :: STEPS]
    return seen


def cosine(num_steps: int) -> list[float]:
    return [0.2 * 0.5 * (1 + math.cos(math.pi * (k / num_steps))) for k in range(num_steps)]


@pytest.mark.parametrize("quantizer", [Binary(), Float()], ids=str)
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Exponential(num_stages=2), [*cosine(2 * STEPS), *cosine(2 * STEPS)]),
        (Average(), 4 * cosine(STEPS)),
        (Average(num_stages=2, warmup=0.5), [*cosine(2 * STEPS), *cosine(STEPS), *cosine(STEPS)]),
        (Linear(reach=0.25), [*cosine(STEPS), *cosine(3 * STEPS)]),
        (Linear(), cosine(4 * STEPS)),
        (Stages((0.5, 0.6, 1.0), (0.0, 0.3, 0.4)), [*cosine(STEPS), *cosine(3 * STEPS)]),
    ],
    ids=str,
)
def test_a_cosine_starts_anew_at_each_stage(digits, monkeypatch, schedule, expected, quantizer):
    optimizer = Optimizer(lr=0.2, schedule=Cosine(), restarts="stage")
    changes = {"optimizer": optimizer, "schedule": schedule, "quantizer": quantizer}
    assert rates(digits, monkeypatch, **changes) == expected


def test_steps_start_anew_at_each_stage(digits, monkeypatch):
    optimizer = Optimizer(lr=0.2, schedule=Steps(milestones=(0.5,), gamma=0.5), restarts="stage")
    seen = rates(digits, monkeypatch, optimizer=optimizer, schedule=Exponential(num_stages=2))
    assert seen == 2 * [*(STEPS * [0.2]), *(STEPS * [0.1])]


def test_the_rate_rises_from_0_at_the_start_of_its_schedule_and_milestones_stay(
    digits, monkeypatch
):
    once = Optimizer(lr=0.2, schedule=Steps(milestones=(0.5,), gamma=0.5), warmup=0.25)
    expected = [0.2 * k / 4 for k in range(4)] + 4 * [0.2] + 8 * [0.1]
    assert rates(digits, monkeypatch, optimizer=once) == pytest.approx(expected, rel=1e-12)
    falling = Optimizer(lr=0.2, schedule=Cosine(), warmup=0.5)
    expected = [rate * min(1, k / 8) for k, rate in enumerate(cosine(4 * STEPS))]
    assert rates(digits, monkeypatch, optimizer=falling) == pytest.approx(expected, rel=1e-12)


def test_where_the_rate_restarts_its_warm_up_does_too(digits, monkeypatch):
    optimizer = Optimizer(lr=0.2, schedule=Constant(), warmup=0.25, restarts="stage")
    schedule = Average(num_stages=2, warmup=0.5)  # stages of 2, 1 and 1 epochs
    seen = rates(digits, monkeypatch, optimizer=optimizer, schedule=schedule)
    long, short = [0.0, 0.1, *(6 * [0.2])], [0.0, 0.2, 0.2, 0.2]
    assert seen == pytest.approx([*long, *short, *short], rel=1e-12)


def test_never_is_one_schedule_over_the_whole_training(digits, monkeypatch):
    assert Optimizer().restarts == "never"
    optimizer = Optimizer(lr=0.2, schedule=Cosine())
    assert rates(digits, monkeypatch, optimizer=optimizer) == cosine(4 * STEPS)


def test_weights_and_momentum_go_on_over_a_restart(digits):
    def figures(restarts):
        optimizer = Optimizer(lr=0.05, schedule=Constant(), restarts=restarts)
        results = loop.train(config(optimizer=optimizer), splits=digits, num_threads=1)
        return [dataclasses.replace(result, images_per_second=0.0) for result in results]

    assert figures("stage") == figures("never")  # with a constant rate nothing else is restarted

"""The same numbers, whatever ran before or runs beside, and as on the day they were stored."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sqtune.config import TrialConfig
from sqtune.config.training import Ema, Optimizer, Regularization
from sqtune.networks import ResNet
from sqtune.quant import (
    Binary,
    Float,
    Stages,
    Ternary,
    Uniform,
)
from sqtune.train.loop import train

CPU = torch.device("cpu")


def config(**changes):
    values = {"network": ResNet("resnet8", 4), "batch_size": 128, "num_epochs": 2, **changes}
    return TrialConfig(**values)


def run(digits, **changes):
    """Train and leave out what is measured by the clock."""
    results = train(config(**changes), splits=digits, num_threads=1)
    return [dataclasses.replace(result, images_per_second=0.0) for result in results]


@pytest.mark.parametrize("quantizer", [Binary(), Ternary(), Uniform(3), Float()], ids=str)
def test_results_do_not_depend_on_what_ran_before(digits, quantizer):
    torch.manual_seed(1)
    first = run(digits, quantizer=quantizer)
    torch.manual_seed(2)
    run(digits, quantizer=Ternary("row"), seed=5)
    torch.set_num_threads(2)
    assert run(digits, quantizer=quantizer) == first
    assert run(digits, quantizer=quantizer, seed=1) != first


def test_two_runs_side_by_side_do_not_disturb_each_other(digits):
    alone = run(digits)
    one = train(config(), splits=digits, num_threads=1)
    other = train(config(seed=9), splits=digits, num_threads=1)
    mixed = [result for pair in zip(one, other, strict=True) for result in pair][::2]
    assert [dataclasses.replace(result, images_per_second=0.0) for result in mixed] == alone


@pytest.mark.parametrize(
    ("quantizer", "expected"),
    [(Binary(), (2.343936, 2.292873)), (Ternary(), (2.328576, 2.242506))],
    ids=["binary", "ternary"],
)
def test_losses_are_those_of_the_day_they_were_stored(digits, quantizer, expected):
    losses = [result.train_loss for result in run(digits, quantizer=quantizer)]
    assert losses == pytest.approx(expected, rel=1e-3)


def test_a_whole_recipe_gives_the_figures_of_the_day_they_were_stored(digits):
    results = run(
        digits,
        quantizer=Ternary(),
        schedule=Stages((0.5, 1.0)),
        optimizer=Optimizer(nesterov=True, decay="weights", warmup=0.2),
        ema=Ema(decay=0.9),
        regularization=Regularization(label_smoothing=0.1, mixup=0.4, cutout=3, random_erasing=0.5),
    )
    losses = [result.train_loss for result in results]
    assert losses == pytest.approx((2.353947, 2.310113), rel=1e-3)
    errors = [result.quantization_error for result in results]  # of the average
    assert errors == pytest.approx((0.423651, 0.427121), rel=1e-3)

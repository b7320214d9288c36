"""What holds of every training: its randomness, its ratios, its results and its errors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sqtune.config import TrialConfig
from sqtune.config.training import Optimizer
from sqtune.data.split import Split
from sqtune.errors import NetworkError, TrainingError
from sqtune.networks import ResNet
from sqtune.quant import Average, Binary, Exponential, Float, Linear, Stages, Ternary
from sqtune.train.loop import METRICS, saved_error, train


def config(**changes) -> TrialConfig:
    settings = {"network": ResNet("resnet8", 2), "batch_size": 256, "num_epochs": 2, **changes}
    return TrialConfig(**settings)


def figures(results):
    return [dataclasses.replace(result, images_per_second=0.0) for result in results]


def test_the_global_generator_stays_where_it_is_at_every_moment(digits):
    state = torch.get_rng_state()
    for result in train(config(num_epochs=3), splits=digits):
        assert torch.equal(torch.get_rng_state(), state)
        if result.epoch == 2:
            break
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(TrainingError):
        list(train(config(optimizer=Optimizer(lr=1e30)), splits=digits))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_a_consumer_does_between_epochs_changes_nothing(digits):
    alone = figures(train(config(num_epochs=3), splits=digits, num_threads=1))
    disturbed = []
    for result in train(config(num_epochs=3), splits=digits, num_threads=1):
        assert torch.get_num_threads() == 1
        disturbed.append(result)
        torch.manual_seed(result.epoch)
        list(train(config(seed=5, num_epochs=1), splits=digits))
        torch.set_num_threads(2)
    assert figures(disturbed) == alone


def test_the_threads_are_left_alone_unless_they_are_given(digits):
    torch.set_num_threads(2)
    next(train(config(), splits=digits))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("quantizer", [Binary(), Float()], ids=str)
def test_the_seed_decides_the_weights_and_the_order(digits, quantizer):
    def losses(seed):
        results = train(config(quantizer=quantizer, seed=seed), splits=digits)
        return [result.train_loss for result in results]

    assert len({tuple(losses(seed)) for seed in (0, 1, 2, 2**63 - 1)}) == 4


@pytest.mark.parametrize(
    ("schedule", "ratios"),
    [
        (Exponential(), [0.5, 0.75, 0.875, 1.0]),
        (Exponential(num_stages=2), [0.5, 0.5, 1.0, 1.0]),
        (Exponential(), [1.0]),
        (Exponential(), [0.5, 0.5, 0.75, 0.75, 0.875, 0.875, 1.0, 1.0]),
        (Average(), [0.25, 0.5, 0.75, 1.0]),
        (Average(num_stages=2, warmup=0.5), [0.0, 0.0, 0.5, 1.0]),
        (Linear(), [0.25, 0.5, 0.75, 1.0]),
        (Linear(reach=0.5), [0.5, 1.0, 1.0, 1.0]),
        (Linear(start=0.5, warmup=0.25), [0.0, 2 / 3, 5 / 6, 1.0]),
        (Stages(), [1.0, 1.0]),
        (Stages((0.0, 0.3, 1.0), (0.0, 0.25, 0.5)), [0.0, 0.3, 1.0, 1.0]),
    ],
)
def test_ratios_by_hand(digits, schedule, ratios):
    settings = config(schedule=schedule, num_epochs=len(ratios), batch_size=1000)
    results = list(train(settings, splits=digits))
    assert [result.ratio for result in results] == pytest.approx(ratios, abs=1e-6)
    assert [result.final for result in results] == [False] * (len(ratios) - 1) + [True]
    assert [result.epoch for result in results] == list(range(1, len(ratios) + 1))
    assert {result.num_epochs for result in results} == {len(ratios)}


def test_the_float_quantizer_has_ratio_0_whatever_the_schedule(digits):
    assert {r.ratio for r in train(config(quantizer=Float()), splits=digits)} == {0}


def test_figures_are_finite_and_errors_are_shares_of_the_validation_split(digits):
    for result in train(config(quantizer=Ternary()), splits=digits):
        assert tuple(result.metrics()) == METRICS
        assert all(math.isfinite(value) for value in result.metrics().values())
        for error in (result.val_error, result.val_error_hybrid):
            wrong = error * len(digits.validation)
            assert round(wrong) / len(digits.validation) == error
        assert 0 < result.quantization_error < 1
        assert result.images_per_second > 0
    assert result.val_error == result.val_error_hybrid


def test_a_batch_larger_than_the_set_is_one_step_an_epoch(digits):
    exact = config(batch_size=len(digits.train))
    larger = config(batch_size=60_000)
    assert figures(train(exact, splits=digits)) == figures(train(larger, splits=digits))


def test_the_splits_are_read_from_the_configuration_when_none_are_given(digits):
    assert figures(train(config())) == figures(train(config(), splits=digits))


class Untouchable:
    """A test split that may be put in its place and nothing else."""

    def to(self, device):
        return self

    def with_workers(self, num_workers):
        return self

    def __getattr__(self, name):
        raise AssertionError(f"the test split's {name} was read")


def test_training_and_saving_never_read_the_test_split(digits, tmp_path):
    sealed = dataclasses.replace(digits, test=Untouchable())
    *_, last = train(config(), splits=sealed, save_to=tmp_path / "network")
    assert saved_error(tmp_path / "network", sealed, "validation") == last.val_error
    with pytest.raises(AssertionError, match="was read"):
        saved_error(tmp_path / "network", sealed, "test")


@pytest.mark.parametrize("quantizer", [Binary(), Float()], ids=str)
def test_a_loss_that_is_not_finite_ends_the_training_with_its_remedy(digits, tmp_path, quantizer):
    settings = config(quantizer=quantizer, optimizer=Optimizer(lr=1e30))
    with pytest.raises(TrainingError) as caught:
        list(train(settings, splits=digits, save_to=tmp_path / "network"))
    assert "epoch 1 of 2" in str(caught.value)
    assert "Lower the learning rate." in str(caught.value)
    assert "optimizer.lr is 1e+30" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_last_step_that_ruins_the_network_is_an_error_too(digits, tmp_path):
    settings = config(num_epochs=1, batch_size=60_000, optimizer=Optimizer(lr=1e38))
    with pytest.raises(TrainingError):
        list(train(settings, splits=digits, save_to=tmp_path / "network"))


def test_images_too_small_for_the_network_are_refused_before_training(digits):
    parts = {
        part: Split(getattr(digits, part).images[:, :, :7], getattr(digits, part).labels)
        for part in ("train", "validation", "test")
    }
    with pytest.raises(NetworkError, match=r"resnet8 is too deep for images of 7x8.*8x8"):
        next(train(config(), splits=dataclasses.replace(digits, **parts)))

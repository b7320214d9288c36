"""The training loop: the same numbers whatever ran before, honest errors, no look at the test."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from sqtune.config import TrialConfig
from sqtune.config.trial import Optimizer
from sqtune.data.batches import Normalize, training_batches
from sqtune.data.split import prepare
from sqtune.errors import StoreError, TrainingError
from sqtune.networks import ResNet, build
from sqtune.quant import (
    Binary,
    Exponential,
    Float,
    Linear,
    StochasticQuantization,
    Ternary,
    Uniform,
)
from sqtune.train.checkpoint import WEIGHTS, load_codes, load_network
from sqtune.train.evaluate import error_rate, reestimated_batch_norm
from sqtune.train.loop import _own_randomness, _seed, saved_error, train
from sqtune.train.optim import set_learning_rate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return prepare(TrialConfig().data)


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


def test_the_global_generator_is_left_alone(digits):
    before = torch.get_rng_state()
    run(digits)
    assert torch.equal(torch.get_rng_state(), before)


def test_ratios_and_learning_rates_follow_their_schedules(digits):
    results = run(digits, num_epochs=4, schedule=Exponential())
    assert [result.ratio for result in results] == [0.5, 0.75, 0.875, 1.0]
    assert [result.final for result in results] == [False, False, False, True]
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    rates = [result.lr for result in results]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01 * 0.1 < rates[0] < 0.1
    linear = run(digits, num_epochs=2, schedule=Linear())
    assert [result.ratio for result in linear] == [0.5, 1.0]


def test_a_loss_that_is_not_finite_ends_the_trial_with_a_remedy(digits):
    with pytest.raises(TrainingError, match=r"epoch 1 .*Lower the learning rate"):
        run(digits, optimizer=Optimizer(lr=1e30))


def test_the_test_split_is_not_touched(digits):
    class Untouchable:
        def to(self, device):
            return self

        def __getattr__(self, name):
            raise AssertionError(f"the test split's {name} was read")

    sealed = dataclasses.replace(digits, test=Untouchable())
    assert run(sealed) == run(digits)


def test_float_training_is_a_plain_loop(digits):
    ours = run(digits, quantizer=Float(), num_epochs=1)
    settings = config(quantizer=Float(), num_epochs=1)
    with _own_randomness(0, 0, CPU):
        model = build(settings.network, 1, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(_seed(0, "order"))
    normalize = Normalize(digits.mean, digits.std, CPU)
    loss_sum = torch.zeros(())
    batches = training_batches(
        digits.train, 128, crop_padding=1, mirror=False, device=CPU, generator=generator
    )
    num_steps = len(digits.train) // 128
    for step, (images, labels) in enumerate(batches):
        set_learning_rate(optimizer, settings.optimizer, step / num_steps)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(normalize(images)), labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach()
    assert ours[0].train_loss == float(loss_sum) / num_steps
    assert ours[0].val_error == error_rate(model, digits.validation, normalize, CPU)


@pytest.mark.parametrize(
    ("quantizer", "expected"),
    [(Binary(), (2.343936, 2.292873)), (Ternary(), (2.328576, 2.242506))],
    ids=["binary", "ternary"],
)
def test_losses_are_those_of_the_day_they_were_stored(digits, quantizer, expected):
    losses = [result.train_loss for result in run(digits, quantizer=quantizer)]
    assert losses == pytest.approx(expected, rel=1e-3)


def test_batch_norm_is_reestimated_and_put_back(digits):
    model = build(ResNet("resnet8", 4), 1, 10)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.uniform_()
        norm.momentum = 0.3
    before, normalize = copy.deepcopy(model.state_dict()), Normalize(digits.mean, digits.std, CPU)
    model.train()
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    with reestimated_batch_norm(model, digits.train, normalize, batch_size=16, device=CPU):
        changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        assert changed
        assert all("running" in key or "num_batches" in key for key in changed)
        assert not model.training
    assert len(seen) <= 30
    assert sum(seen) <= len(digits.train) / 4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert model.stem_bn.momentum == 0.3


@pytest.mark.parametrize("quantizer", [Binary(), Ternary(), Uniform(2), Uniform(5)], ids=str)
def test_a_saved_network_reloads_to_the_same_error_and_codes(digits, tmp_path, quantizer):
    folder = tmp_path / "network"
    settings = config(quantizer=quantizer)
    for _ in range(2):  # the second time replaces the first
        *_, last = train(settings, splits=digits, num_threads=1, save_to=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["network"]
    assert saved_error(folder, digits, "validation") == last.val_error
    saved = load_network(folder)
    frozen = StochasticQuantization(saved.model, quantizer).freeze()
    for name, layer in load_codes(folder).items():
        assert torch.equal(layer.codes, frozen[name].codes)
        assert torch.equal(layer.values(), saved.model.get_parameter(name))
    assert saved.config == settings


def test_a_damaged_network_is_an_error_that_names_it(digits, tmp_path):
    folder = tmp_path / "network"
    list(train(config(num_epochs=1), splits=digits, num_threads=1, save_to=folder))
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(StoreError, match="network"):
        load_network(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(StoreError, match="network"):
        load_network(folder)

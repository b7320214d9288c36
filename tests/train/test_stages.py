"""Keys of epochs: equal where the same acts, different where anything else does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from staged import WARM_UP

import sqtune
import sqtune.train.stages as stages_module
from sqtune.config import TrialConfig
from sqtune.config.training import (
    Compute,
    Constant,
    Cosine,
    Distillation,
    Ema,
    Optimizer,
    Regularization,
    Start,
    Steps,
)
from sqtune.config.trial import Override
from sqtune.data import Digits
from sqtune.errors import StoreError
from sqtune.networks import ResNet
from sqtune.quant import (
    Average,
    Binary,
    CosineRise,
    Cubic,
    Exponential,
    Float,
    LearnedTernary,
    LearnedUniform,
    Linear,
    Selection,
    Stages,
    Ternary,
    Uniform,
)
from sqtune.train.stages import epoch_keys, stage_ends

DATA = "f00d"


def config(**changes) -> TrialConfig:
    return TrialConfig(**{"num_epochs": 4, "schedule": WARM_UP, **changes})


def keys(num_threads: int = 1, data: str = DATA, device: str = "cpu", **changes) -> tuple[str, ...]:
    return epoch_keys(config(**changes), data, device=device, num_threads=num_threads)


def num_shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return how many epochs are shared; what comes after the first difference differs too."""
    same = [a == b for a, b in zip(one, other, strict=False)]
    shared = same.index(False) if False in same else len(same)
    assert not set(one[shared:]) & set(other[shared:])
    return shared


def test_there_is_a_key_for_each_epoch():
    assert len(keys()) == len(set(keys())) == 4
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys())


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "beef"},
        {"num_threads": 2},
        {"device": "cuda"},
        {"network": ResNet("resnet8", 4)},
        {"batch_size": 64},
        {"seed": 1},
        {"optimizer": Optimizer(lr=0.2)},
        {"optimizer": Optimizer(momentum=0.8)},
        {"optimizer": Optimizer(weight_decay=0.0)},
        {"optimizer": Optimizer(name="adamw")},
        {"optimizer": Optimizer(schedule=Constant())},
        {"optimizer": Optimizer(restarts="stage")},
        {"optimizer": Optimizer(nesterov=True)},
        {"optimizer": Optimizer(decay="weights")},
        {"optimizer": Optimizer(warmup=0.1)},
        {"ema": Ema(decay=0.9)},
        {"regularization": Regularization(label_smoothing=0.1)},
        {"regularization": Regularization(mixup=0.1)},
        {"regularization": Regularization(cutout=1)},
        {"regularization": Regularization(random_erasing=0.1)},
        {"compute": Compute(precision="bfloat16")},
        {"compute": Compute(channels_last="on")},
        {"compute": Compute(compile="default")},
    ],
    ids=str,
)
def test_what_acts_from_the_start_is_in_every_key(changes):
    assert num_shared(keys(), keys(**changes)) == 0


def test_the_augmentation_acts_though_the_images_are_the_same():
    for changes in ({"crop_padding": 0}, {"mirror": True}):
        one = epoch_keys(config(data=Digits(**changes)), DATA, num_threads=1)
        assert num_shared(one, keys()) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"quantizer": Ternary()},
        {"quantizer": Uniform(3)},
        {"quantizer": LearnedUniform(3)},
        {"quantizer": LearnedTernary()},
        {"selection": Selection("softmax")},
        {"selection": Selection(strategy="fixed")},
        {"selection": Selection(strategy="deterministic")},
        {"selection": Selection(granularity="element")},
        {"activation_bits": 4},
        {"keep_float": ("stem",)},
        {"overrides": (Override(match="head", quantizer=Uniform(8)),)},
        {"schedule": Exponential(num_stages=3, warmup=0.5)},  # 0, 0, 0.75, 1
        {"schedule": Linear(warmup=0.5, start=0.1)},
        {"distillation": Distillation(weight=0.5)},
        {"quantizer": Float()},
    ],
    ids=str,
)
def test_a_float_warm_up_is_shared_whatever_comes_after_it(changes):
    shared = 2
    assert num_shared(keys(), keys(**changes)) == shared


def test_the_clipping_and_the_ends_act_with_low_bit_activations_only():
    assert keys(activation_clipping="pact", activation_ends_bits=4) == keys()
    low = {"activation_bits": 2}
    assert num_shared(keys(**low), keys(**low, activation_clipping="pact")) == 2
    assert num_shared(keys(**low), keys(**low, activation_ends_bits=4)) == 2


def test_a_float_baseline_shares_with_itself_whatever_the_schedule_says():
    baseline = keys(quantizer=Float())
    assert keys(quantizer=Float(), schedule=Exponential()) == baseline
    assert keys(quantizer=Float(), selection=Selection("error")) == baseline
    assert keys(quantizer=Float(), keep_float=("stem",)) == baseline
    with_layers = keys(quantizer=Float(), overrides=(Override(match="head", quantizer=Binary()),))
    assert num_shared(with_layers, baseline) == 2


def test_schedules_that_begin_alike_share_their_beginning():
    def ratios(*values, starts=()):
        return keys(schedule=Stages(ratios=values, starts=starts))

    assert num_shared(ratios(0.5, 0.75, 0.9, 1.0), ratios(0.5, 0.75, 1.0, 1.0)) == 2
    assert ratios(0.5, 1.0) == ratios(0.5, 0.5, 1.0, 1.0)
    assert keys(schedule=Exponential(num_stages=2)) == ratios(0.5, 1.0)


def test_what_is_never_drawn_does_not_act():
    at_once = {"schedule": Stages()}
    assert keys(**at_once, selection=Selection("softmax")) == keys(**at_once)
    assert keys(**at_once, selection=Selection(strategy="fixed")) == keys(**at_once)
    element = keys(**at_once, selection=Selection(granularity="element"))
    assert num_shared(element, keys(**at_once)) == 0  # its state has another form
    first, second = (
        keys(selection=Selection(function, strategy="deterministic"))
        for function in ("linear", "softmax")
    )
    assert first == second


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (Constant(), Steps(milestones=(0.5,)), 2),
        (Constant(), Steps(milestones=(0.6,)), 2),
        (Constant(), Steps(milestones=(0.75,)), 3),
        (Steps(milestones=(0.5, 0.75)), Steps(milestones=(0.5,)), 3),
        (Steps(milestones=(0.5,)), Steps(milestones=(0.5,), gamma=0.5), 2),
        (Steps(milestones=(0.25, 0.3), gamma=0.5), Steps(milestones=(0.25, 0.4), gamma=0.5), 1),
        (Constant(), Cosine(), 0),
        (Constant(), Steps(gamma=1.0), 4),
    ],
    ids=str,
)
def test_only_the_slice_of_the_learning_rate_that_acts_counts(one, other, shared):
    first, second = (keys(optimizer=Optimizer(schedule=each)) for each in (one, other))
    assert num_shared(first, second) == shared


def test_a_longer_training_shares_where_its_ratios_and_rates_are_the_same():
    constant = {"optimizer": Optimizer(schedule=Constant()), "quantizer": Float()}
    assert num_shared(keys(**constant), keys(**constant, num_epochs=9)) == 4
    assert num_shared(keys(quantizer=Float()), keys(quantizer=Float(), num_epochs=9)) == 0  # cosine
    restarts = {"optimizer": Optimizer(restarts="stage")}
    first = keys(**restarts, schedule=Average())  # four stages of an epoch each
    longer = keys(**restarts, schedule=Stages((0.25, 0.5, 1.0), (0.0, 0.2, 0.4)), num_epochs=5)
    assert num_shared(first, longer) == 2


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (
            Optimizer(warmup=0.3, schedule=Constant()),
            Optimizer(warmup=0.3, schedule=Steps(milestones=(0.75,))),
            0,
        ),
        (Optimizer(warmup=0.3), Optimizer(warmup=0.31), 0),
        (Optimizer(warmup=0.3), Optimizer(), 0),
        (Optimizer(warmup=0.3), Optimizer(warmup=0.3), 4),
    ],
    ids=range(4),
)
def test_a_warm_up_of_the_rate_acts_from_the_first_epoch(one, other, shared):
    assert num_shared(keys(optimizer=one), keys(optimizer=other)) == shared


def test_a_warm_up_that_starts_anew_acts_at_the_start_of_each_stage():
    def said(warmup):
        optimizer = Optimizer(warmup=warmup, restarts="stage", schedule=Constant())
        return [
            stages_module._learning_rate(
                config(optimizer=optimizer, schedule=Exponential(num_stages=2)), epoch
            )
            for epoch in range(1, 5)
        ]

    assert said(0.0) == [0.1] * 4
    first, second, third, fourth = said(0.3)
    assert first == third != 0.1
    assert second == fourth == 0.1
    assert said(0.7)[1] == said(0.7)[3] != 0.1


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    milestones=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3).map(tuple),
    num_epochs=st.integers(1, 9),
    num_steps=st.integers(1, 50),
    warmup=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_a_rate_that_is_said_to_stay_does_at_every_step(milestones, num_epochs, num_steps, warmup):
    spec = Optimizer(schedule=Steps(milestones=milestones, gamma=0.5), warmup=warmup)
    settings_ = config(optimizer=spec, num_epochs=num_epochs)
    for epoch in range(1, num_epochs + 1):
        said = stages_module._learning_rate(settings_, epoch)
        first = (epoch - 1) * num_steps
        rates = {
            spec.learning_rate(step / (num_epochs * num_steps))
            for step in range(first, first + num_steps)
        }
        if isinstance(said, float):
            assert rates == {said}
        else:
            assume(num_steps > 1)


def test_soft_targets_act_from_where_there_is_a_teacher(tmp_path):
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.pt")
        paths[-1].write_bytes(bytes([number]))
    one, other = (Start(weights=str(path)) for path in paths)
    soft = Distillation(weight=0.5)
    assert num_shared(keys(distillation=soft), keys(distillation=Distillation(weight=0.6))) == 2
    no_warm_up = {"schedule": Exponential(), "start": one}
    assert num_shared(keys(**no_warm_up), keys(**no_warm_up, distillation=soft)) == 0
    named = [Distillation(weight=0.5, teacher=str(path)) for path in paths]
    assert num_shared(keys(distillation=named[0]), keys(distillation=named[1])) == 0
    assert num_shared(keys(distillation=named[0]), keys()) == 0
    idle = Distillation(weight=0.0, teacher=str(tmp_path / "nowhere"))
    assert keys(distillation=idle) == keys()
    assert keys(quantizer=Float(), distillation=soft) == keys(quantizer=Float())
    assert num_shared(keys(start=one), keys(start=other)) == 0
    assert num_shared(keys(start=one), keys()) == 0
    fresh = Start(weights=str(paths[0]), fresh=("head",))
    assert num_shared(keys(start=one), keys(start=fresh)) == 0


def test_weights_count_by_what_they_are_not_where(tmp_path):
    first, second = tmp_path / "one.pt", tmp_path / "two.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before = keys(start=Start(weights=str(first)))
    assert keys(start=Start(weights=str(second))) == before
    first.write_bytes(b"Weights")
    os.utime(first, ns=(0, 1))
    assert num_shared(keys(start=Start(weights=str(first))), before) == 0


def test_weights_that_are_missing_are_an_error_that_names_the_field(tmp_path):
    nowhere = str(tmp_path / "nowhere.pt")
    with pytest.raises(StoreError, match=r"trial.start.weights: .*nowhere.pt cannot be read"):
        keys(start=Start(weights=nowhere))
    with pytest.raises(StoreError, match=r"trial.distillation.teacher: .*nowhere.pt"):
        keys(distillation=Distillation(weight=0.5, teacher=nowhere))


def test_without_a_number_the_threads_are_those_there_are():
    torch.set_num_threads(2)
    assert epoch_keys(config(), DATA) == keys(num_threads=2)


KEYS = """
from sqtune.config import TrialConfig
from sqtune.train.stages import epoch_keys
print(epoch_keys(TrialConfig(num_epochs=1), "f00d", num_threads=1)[0])
"""


@pytest.mark.parametrize(
    ("file", "acts"),
    [
        ("quant/quantizers.py", True),
        ("train/optim.py", True),
        ("config/training.py", True),
        ("search/driver.py", False),
    ],
)
def test_changed_code_has_other_keys_where_it_acts(tmp_path, file, acts):
    """In a copy of the package, by a process of its own."""
    package = Path(sqtune.__file__).parent
    copied = shutil.copytree(package, tmp_path / "sqtune", ignore=shutil.ignore_patterns("*.pyc"))
    with (copied / file).open("a") as source:
        source.write("# changed\n")
    answer = subprocess.run(
        [sys.executable, "-c", KEYS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    [key] = epoch_keys(TrialConfig(num_epochs=1), DATA, num_threads=1)
    assert (answer.stdout.strip() != key) == acts


def test_another_torch_has_other_keys(monkeypatch):
    before = keys()
    # The one part that is replaced: a second torch is a download of gigabytes.
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert num_shared(before, keys()) == 0


@pytest.mark.parametrize(
    ("schedule", "num_epochs", "ends"),
    [
        (Exponential(), 12, (3, 6, 9, 12)),
        (Exponential(), 5, (1, 2, 3, 5)),
        (Exponential(), 2, (1, 2)),  # stages shorter than an epoch are passed over
        (Average(num_stages=2, warmup=0.5), 4, (2, 3, 4)),
        (Stages(), 7, (7,)),
        (Stages((0.0, 0.0, 1.0)), 3, (1, 2, 3)),
        (Linear(warmup=0.25), 8, (2, 8)),
        (Linear(warmup=0.25, reach=0.5), 8, (2, 4, 8)),
        (Cubic(), 3, (3,)),
        (CosineRise(warmup=0.5), 4, (2, 4)),
    ],
    ids=str,
)
def test_stage_ends_by_hand(schedule, num_epochs, ends):
    assert stage_ends(config(schedule=schedule, num_epochs=num_epochs)) == ends
    assert stage_ends(config(schedule=schedule, num_epochs=num_epochs, quantizer=Float())) == (
        num_epochs,
    )


def test_keys_are_quick():
    longer = config(num_epochs=200, schedule=Linear(warmup=0.2))
    epoch_keys(longer, DATA, num_threads=1)
    started = time.perf_counter()
    for seed in range(20):
        epoch_keys(longer.model_copy(update={"seed": seed}), DATA, num_threads=1)
    assert (time.perf_counter() - started) / 20 < 0.05  # 4 ms on an idle core

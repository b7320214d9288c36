"""TrialConfig: frozen, strict, and the same after a trip through JSON."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from sqtune.config import TrialConfig
from sqtune.config.trial import Constant, Cosine, Optimizer, Steps
from sqtune.data import Cifar, Digits, ImageFolder
from sqtune.networks import ResNet
from sqtune.quant import Average, Exponential, Float, Linear, Selection, Stages, Ternary, Uniform

CONFIGS = [
    TrialConfig(),
    TrialConfig(quantizer=Float(), seed=2**63 - 1),
    TrialConfig(quantizer=Ternary("row")),
    TrialConfig(quantizer=Uniform(bits=3, scale_steps=0)),
    TrialConfig(schedule=Average(num_stages=3, warmup=0.1)),
    TrialConfig(schedule=Exponential(num_stages=2)),
    TrialConfig(schedule=Linear(start=0.25, reach=0.5)),
    TrialConfig(schedule=Stages((0.0, 0.5, 1.0), (0.0, 0.2, 0.4))),
    TrialConfig(selection=Selection("error", "fixed", "element")),
    TrialConfig(data=Cifar(name="cifar100")),
    TrialConfig(data=ImageFolder("images", image_size=32, channels=1)),
    TrialConfig(data=Digits(split_seed=1)),
    TrialConfig(network=ResNet("resnet56", 5)),
    TrialConfig(optimizer=Optimizer(name="adamw", lr=1e-3, schedule=Constant())),
    TrialConfig(optimizer=Optimizer(schedule=Steps(milestones=(0.5,), gamma=0.2))),
    TrialConfig(optimizer=Optimizer(weight_decay=1 / 3)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_trip_through_json_changes_neither_config_nor_hash(config):
    back = TrialConfig.model_validate_json(json.dumps(config.nested()))
    assert back == config
    assert hash(back) == hash(config)
    assert {config: 1}[back] == 1


def test_different_configs_are_different():
    assert len(set(CONFIGS)) == len(CONFIGS)
    assert len({json.dumps(config.flat()) for config in CONFIGS}) == len(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_flat_paths_lead_to_the_leaves_of_the_nested_config(config):
    for path, value in config.flat().items():
        node = config.nested()
        for part in path.split("."):
            node = node[part]
        assert node == value
        assert not isinstance(value, dict)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeed": 1},
        {"seed": -1},
        {"seed": "1"},
        {"num_epochs": 0},
        {"batch_size": 64.0},
        {"quantizer": {"name": "binary", "bits": 1}},
        {"optimizer": {"lr": 0}},
        {"optimizer": {"lr": float("inf")}},
        {"optimizer": {"momentum": 1}},
        {"selection": {"function": "linear", "strat": "fixed"}},
        {"network": {"width": 0}},
        {"network": {"depth": 20}},
    ],
    ids=str,
)
def test_what_no_configuration_has_is_refused(changes):
    with pytest.raises(ValidationError):
        TrialConfig.model_validate(changes)


def test_a_configuration_cannot_be_changed():
    config = TrialConfig()
    with pytest.raises(ValidationError):
        config.seed = 1
    with pytest.raises(ValidationError):
        config.optimizer.lr = 1.0
    with pytest.raises(AttributeError):
        config.quantizer.name = "ternary"


def test_learning_rate_schedules_by_hand():
    points = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [Constant().factor(point) for point in points] == [1.0] * 5
    half = 0.5**0.5
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2, 0]
    assert [Cosine().factor(point) for point in points] == pytest.approx(expected, abs=1e-15)
    steps = Steps(milestones=(0.25, 0.75), gamma=0.1)
    factors = [steps.factor(point) for point in (0.0, 0.2499, 0.25, 0.7499, 0.75, 1.0)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])

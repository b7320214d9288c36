"""TrialConfig: frozen, strict, and the same after a trip through JSON."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from sqtune.config import TrialConfig
from sqtune.config.paths import get, keys_of
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
from sqtune.data import Cifar, DataFactory, Digits, ImageFolder, ImageNet
from sqtune.networks import AlexNetBn, ResNet, ResNet18, Torchvision, Vgg9
from sqtune.quant import (
    Activations,
    Average,
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
    TrialConfig(optimizer=Optimizer(restarts="stage")),
    TrialConfig(network=Vgg9(width=8)),
    TrialConfig(network=AlexNetBn(width=12)),
    TrialConfig(network=ResNet18()),
    TrialConfig(network=Torchvision("mobilenet_v2")),
    TrialConfig(quantizer=LearnedUniform(bits=2)),
    TrialConfig(quantizer=LearnedTernary()),
    TrialConfig(keep_float=("stem", "head")),
    TrialConfig(overrides=(Override(match="stem", quantizer=Uniform(bits=8)),)),
    TrialConfig(
        overrides=(
            Override(match="head", quantizer=Float()),
            Override(match="group1|group2", quantizer=LearnedUniform(bits=3)),
        )
    ),
    TrialConfig(activation_bits=4, activation_clipping="pact", activation_ends_bits=32),
    TrialConfig(start=Start(weights="float.safetensors", fresh=("head",))),
    TrialConfig(distillation=Distillation(weight=0.5, teacher="teacher")),
    TrialConfig(optimizer=Optimizer(nesterov=True)),
    TrialConfig(optimizer=Optimizer(decay="weights", warmup=0.05)),
    TrialConfig(ema=Ema(decay=0.999)),
    TrialConfig(regularization=Regularization(label_smoothing=0.1)),
    TrialConfig(regularization=Regularization(mixup=0.2, cutout=8, random_erasing=0.25)),
    TrialConfig(compute=Compute(precision="bfloat16", channels_last="on", compile="default")),
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
        assert get(config.nested(), keys_of(path)) == value
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
        {"optimizer": {"warmup": 1}},
        {"optimizer": {"decay": "none"}},
        {"optimizer": {"nesterov": 1}},
        {"optimizer": {"nesterov": True, "name": "adamw"}},
        {"optimizer": {"nesterov": True, "momentum": 0}},
        {"ema": {"decay": 1}},
        {"ema": {"decay": -0.1}},
        {"regularization": {"label_smoothing": 1}},
        {"regularization": {"mixup": -1}},
        {"regularization": {"mixup": 101}},
        {"regularization": {"cutout": 2.5}},
        {"regularization": {"random_erasing": 1.1}},
        {"regularization": {"dropout": 0.5}},
        {"selection": {"function": "linear", "strat": "fixed"}},
        {"network": {"width": 0}},
        {"network": {"depth": 20}},
        {"network": {"model": "alexnet"}},
        {"network": {"name": "torchvision", "model": "alexnet", "width": 8}},
        {"keep_float": ["("]},
        {"overrides": [{"match": "[", "quantizer": {"name": "binary"}}]},
        {"overrides": [{"match": "stem"}]},
        {"start": {"weights": "here", "fresh": ["("]}},
        {"activation_bits": 16},
        {"activation_bits": 8, "activation_ends_bits": 4},
        {"activation_clipping": "max"},
    ],
    ids=str,
)
def test_what_no_configuration_has_is_refused(changes):
    with pytest.raises(ValidationError):
        TrialConfig.model_validate(changes)


def test_a_network_without_a_name_is_a_resnet20():
    for text in ('{"network": {"width": 8}}', '{"network": {"width": 8, "name": "resnet20"}}'):
        assert TrialConfig.model_validate_json(text).network == ResNet("resnet20", 8)
    assert TrialConfig.model_validate_json('{"network": {}}') == TrialConfig()


@pytest.mark.parametrize("ends_bits", [2, 4, 8, 32])
def test_bits_at_the_ends_act_only_on_low_bit_activations(ends_bits):
    assert TrialConfig(activation_ends_bits=ends_bits).activations is None
    config = TrialConfig(activation_bits=2, activation_ends_bits=ends_bits)
    assert config.activations == Activations(2, "lsq", ends_bits)


def test_a_configuration_cannot_be_changed():
    config = TrialConfig()
    with pytest.raises(ValidationError):
        config.seed = 1
    with pytest.raises(ValidationError):
        config.optimizer.lr = 1.0
    with pytest.raises(AttributeError):
        config.quantizer.name = "ternary"


def test_what_was_saved_before_there_was_a_recipe_loads_as_it_was():
    old = TrialConfig().nested()
    del old["ema"], old["regularization"]
    for name in ("nesterov", "decay", "warmup"):
        del old["optimizer"][name]
    assert TrialConfig.model_validate_json(json.dumps(old)) == TrialConfig()


@pytest.mark.parametrize(
    "data",
    [
        ImageNet("somewhere"),
        ImageNet("somewhere", mean=None, std=None),
        ImageFolder("somewhere", channels=1, mean=(0.5,), std=(1.0,)),
        DataFactory("own.data:load", {"sizes": [1, [2]], "mean": [0.5]}, mean=(0.5,), std=(1.0,)),
    ],
    ids=lambda data: data.name,
)
def test_data_come_back_from_json_as_they_were(data):
    config = TrialConfig(data=data)
    again = TrialConfig.model_validate_json(json.dumps(config.nested()))
    assert again == config
    assert hash(again) == hash(config)


def test_learning_rate_schedules_by_hand():
    points = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [Constant().factor(point) for point in points] == [1.0] * 5
    half = 0.5**0.5
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2, 0]
    assert [Cosine().factor(point) for point in points] == pytest.approx(expected, abs=1e-15)
    steps = Steps(milestones=(0.25, 0.75), gamma=0.1)
    factors = [steps.factor(point) for point in (0.0, 0.2499, 0.25, 0.7499, 0.75, 1.0)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])

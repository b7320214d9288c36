"""Space files that are right: what they mean, what overrides change, what guards a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqtune.config import load_space
from sqtune.config.load import corner_points
from sqtune.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml"))


@pytest.fixture
def load(tmp_path):
    """Return a function that loads a space from its text."""

    def load_text(text, overrides=()):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_space(path, overrides)

    return load_text


def paths(space, values):
    return [path for path, _ in space.active(values)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_loads_and_all_its_corners_are_configurations(path):
    space = load_space(path)
    configs = [space.config(values) for values in corner_points(space)]
    assert len(set(configs)) > 1
    assert space.name == path.stem


def test_there_are_shipped_spaces():
    assert SHIPPED


def test_the_name_is_the_file_s_unless_it_has_one(load):
    assert load("trial: {}").name == "study"
    assert load("name: other").name == "other"


def test_numbers_may_be_written_with_an_exponent(load):
    text = "trial: {optimizer: {weight_decay: 1e-4, lr: 1E-1}}\nspace: {seed: {int: [0, 9]}}"
    optimizer = load(text, ["trial.optimizer.momentum=5e-1"]).config({}).optimizer
    assert (optimizer.weight_decay, optimizer.lr, optimizer.momentum) == (0.0001, 0.1, 0.5)
    bounds = load("space: {optimizer.lr: {float: [1e-3, 1e0]}}").space["optimizer.lr"].bounds
    assert bounds == (0.001, 1.0)


TWO_LEVELS = """
space:
  quantizer.scale_steps: {int: [0, 9], when: {quantizer.bits: [2, 3]}}
  quantizer.bits: {choice: [2, 3, 8], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.1, 1.0], when: {trial_kind: none}}
  quantizer.name: {choice: [binary, uniform]}
""".replace("  optimizer.lr: {float: [0.1, 1.0], when: {trial_kind: none}}\n", "")


def test_a_parameter_comes_after_those_its_condition_names(load):
    order = ["quantizer.name", "quantizer.bits", "quantizer.scale_steps"]
    assert load(TWO_LEVELS).order() == order
    values = {"quantizer.name": "uniform", "quantizer.bits": 3}
    assert paths(load(TWO_LEVELS), values) == order


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"quantizer.name": "binary"}, 1),
        ({"quantizer.name": "uniform", "quantizer.bits": 8}, 2),
        ({"quantizer.name": "uniform", "quantizer.bits": 2}, 3),
        ({"quantizer.name": "binary", "quantizer.bits": 2}, 3),
        ({}, 1),
    ],
)
def test_a_parameter_is_active_only_where_its_condition_holds(load, values, expected):
    space = load(TWO_LEVELS)
    if values.get("quantizer.name") == "binary":
        values = {"quantizer.name": "binary"}
        expected = 1
    assert len(paths(space, values)) == expected


OVERRIDDEN = """
trial: {batch_size: 32}
space:
  optimizer.lr: {float: [0.1, 1.0]}
"""


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("", "PATH=VALUE & for example --set trial.num_epochs=2"),
        ("trial.num_epochs", "PATH=VALUE"),
        ("num_epochs=3", "PATH=VALUE"),
        ("=3", "PATH=VALUE"),
        ("trial=3", "PATH=VALUE"),
        ("trail.num_epochs=3", 'no such section & Did you mean "trial"?'),
        ("trial.num_epoch=3", 'no such field & Did you mean "num_epochs"?'),
        ("trial.optimizer.lrr=3", 'no such field & Did you mean "lr"?'),
        ("space.optimizer.lrr={int: [1, 2]}", 'no such field & Did you mean "lr"?'),
        ("search.num_trial=3", 'no such field & Did you mean "num_trials"?'),
        ("resources.cpu=3", 'no such field & Did you mean "cpus"?'),
        ("trial.num_epochs=many", "must be a valid integer & not 'many'"),
        ("trial.optimizer.lr=.nan", "finite"),
        ("trial.schedule={name: stages, ratios: [1, 0.5, 1]}", "ratios never fall"),
        ("search.num_trials=0", "must be greater than or equal to 1"),
        ("name=7", "must be a valid string & not 7"),
        ("space.optimizer.lr={float: [2, 1]}", "reversed & Write [1.0, 2.0]"),
        ("space.seed={int: [1, 2], when: {nam: 1}}", "neither searched nor fixed"),
        ("trial.num_epochs=[1", "not a YAML value"),
        ("trial.quantizer.bits=3", "a mapping with a name is needed"),
        ("trial.batch_size.x=3", "must be a valid integer"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, parts):
    path = tmp_path / "space.yaml"
    path.write_text(OVERRIDDEN)
    with pytest.raises(ConfigError) as caught:
        load_space(path, [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert all(part in str(caught.value) for part in parts.split(" & ")), caught.value


def test_an_override_is_not_blamed_for_the_file(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("trial:\n  seedy: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_space(path, ["trial.batch_size=32", "trial.seed=2"])
    assert str(caught.value).startswith(f"{path}:2: trial.seedy: ")

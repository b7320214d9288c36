"""Space files that are right: what they mean, what overrides change, what guards a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqtune.config import label, load_space
from sqtune.config.compared import comparison_space
from sqtune.config.corners import corner_points
from sqtune.config.training import Ema, Optimizer, Regularization
from sqtune.errors import ConfigError
from sqtune.quant import Average, Binary, Stages, Ternary, Uniform

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml"))


@pytest.fixture
def load(tmp_path):
    """Return a function that loads a space from its text."""

    def load_text(text, overrides=()):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_space(path, overrides)

    return load_text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_loads_and_all_its_corners_are_configurations(path):
    space = load_space(path)
    space = space if space.compare is None else comparison_space(space, 1)
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
trial: {num_epochs: 3}
space:
  quantizer.scale_steps: {int: [0, 9], when: {quantizer.bits: [2, 3]}}
  quantizer.bits: {choice: [2, 3, 8], when: {quantizer.name: uniform}}
  quantizer.name: {choice: [binary, uniform]}
  batch_size: {choice: [32, 64], when: {num_epochs: 4}}
  seed: {int: [0, 9], when: {num_epochs: 3, quantizer.name: binary}}
"""


def test_a_parameter_comes_after_those_its_condition_names(load):
    order = load(TWO_LEVELS).order()
    assert set(order) == set(load(TWO_LEVELS).space)
    steps, bits, name, seed = (
        order.index(path)
        for path in ("quantizer.scale_steps", "quantizer.bits", "quantizer.name", "seed")
    )
    assert name < bits < steps
    assert name < seed


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"quantizer.name": "binary", "quantizer.bits": 2}, {"quantizer.name", "seed"}),
        ({"quantizer.name": "uniform", "quantizer.bits": 8}, {"quantizer.name", "quantizer.bits"}),
        (
            {"quantizer.name": "uniform", "quantizer.bits": 3},
            {"quantizer.name", "quantizer.bits", "quantizer.scale_steps"},
        ),
    ],
)
def test_a_parameter_is_asked_for_only_where_its_conditions_hold(load, answers, expected):
    values = {}
    for path, _ in load(TWO_LEVELS).active(values):
        values[path] = answers.get(path, 5)
    assert set(values) == expected


def test_values_are_put_into_the_configuration_by_their_paths(load):
    text = "trial: {optimizer: {lr: 0.2}, num_epochs: 3}\nspace: {optimizer.lr: {float: [0.1, 1]}}"
    config = load(text).config({"optimizer.lr": 0.5, "quantizer.name": "ternary"})
    assert (config.optimizer.lr, config.num_epochs, config.quantizer) == (0.5, 3, Ternary())


def test_a_choice_may_be_a_mapping_and_deeper_values_go_into_it(load):
    text = """
space:
  schedule.warmup: {float: [0.1, 0.2]}
  schedule: {choice: [{name: average, num_stages: 3}, {name: linear, reach: 0.5}]}
"""
    schedule = {"name": "average", "num_stages": 3}
    config = load(text).config({"schedule.warmup": 0.2, "schedule": schedule})
    assert config.schedule == Average(num_stages=3, warmup=0.2)


def test_making_a_configuration_changes_nothing_of_the_space(load):
    space = load("""
space:
  schedule: {choice: [{name: average}, {name: linear}]}
  schedule.warmup: {float: [0.1, 0.2]}
""")
    before = space.hash()
    average = space.space["schedule"].choice[0]
    assert space.config({"schedule": average, "schedule.warmup": 0.15}).schedule.warmup == 0.15
    assert label(average) == "average"
    assert space.config({"schedule": average}).schedule == Average()
    assert space.hash() == before


def test_another_quantizer_loses_the_fixed_fields_and_the_same_one_keeps_them(load):
    space = load("""
trial: {quantizer: {name: uniform, bits: 3}}
space: {quantizer.name: {choice: [uniform, binary]}}
""")
    assert space.config({"quantizer.name": "binary"}).quantizer == Binary()
    assert space.config({"quantizer.name": "uniform"}).quantizer == Uniform(bits=3)
    text = "trial: {quantizer: {name: uniform, bits: 3}}"
    assert load(text, ["trial.quantizer.name=binary"]).config({}).quantizer == Binary()
    assert load(text, ["trial.quantizer.name=uniform"]).config({}).quantizer == Uniform(bits=3)


def test_a_range_keeps_its_ends_step_and_scale(load):
    space = load("""
space:
  optimizer.lr: {float: [0.01, 1], log: true}
  optimizer.momentum: {float: [0.5, 0.9], step: 0.1}
  num_epochs: {int: [2, 9], step: 3}
""").space
    assert (space["optimizer.lr"].bounds, space["optimizer.lr"].log) == ((0.01, 1.0), True)
    assert space["optimizer.momentum"].step == 0.1
    assert space["num_epochs"].samples() == [2, 8]


def test_an_override_takes_the_place_of_a_searched_value(load):
    text = "space:\n  schedule.warmup: {float: [0.1, 0.2]}\n  schedule.name: {choice: [average]}\n"
    one = load(text, ["trial.schedule.warmup=0.3"])
    assert list(one.space) == ["schedule.name"]
    assert one.config({"schedule.name": "average"}).schedule == Average(warmup=0.3)
    whole = load(text, ["trial.schedule={name: stages, ratios: [0.5, 1]}"])
    assert (list(whole.space), whole.config({}).schedule) == ([], Stages((0.5, 1.0)))


def test_overrides_reach_every_section_and_the_last_one_holds(load):
    overrides = ["name=mine", "search.num_trials=7", "resources.cpus=2", "trial.seed=3"]
    space = load("space: {seed: {int: [1, 2]}}", [*overrides, "trial.seed=4"])
    assert (space.name, space.search.num_trials, space.resources.num_threads) == ("mine", 7, 2)
    assert space.config({}).seed == 4
    added = load("trial: {seed: 1}", ["space.num_epochs={int: [1, 9]}"])
    assert added.space["num_epochs"].bounds == (1, 9)


GUARDED = """
name: a
trial: {optimizer: {lr: 0.1}}
space:
  num_epochs: {int: [1, 9], step: 2}
  quantizer.name: {choice: [binary, ternary]}
  optimizer.momentum: {float: [0.5, 0.9], log: true, when: {quantizer.name: binary}}
search: {num_trials: 3, max_concurrent: 2, time_limit_seconds: 60, sampler: tpe, seed: 1}
resources: {cpus: 1, gpus: 0}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: a", "name: b"),
        ("num_trials: 3", "num_trials: 4"),
        ("max_concurrent: 2", "max_concurrent: 1"),
        ("time_limit_seconds: 60", "time_limit_seconds: 90"),
        ("cpus: 1", "cpus: 2"),
        ("gpus: 0", "gpus: 1"),
        ("trial: {", "trial:   {"),
    ],
)
def test_a_study_goes_on_when_only_its_budget_or_place_changes(load, old, new):
    assert old in GUARDED
    assert load(GUARDED.replace(old, new)).hash() == load(GUARDED).hash()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lr: 0.1", "lr: 0.2"),
        ("lr: 0.1", "momentum: 0.1"),
        ("{lr: 0.1}", "{lr: 0.1, name: adamw}"),
        ("[1, 9]", "[1, 8]"),
        ("step: 2", "step: 1"),
        ("num_epochs:", "batch_size:"),
        ("[binary, ternary]", "[binary, float]"),
        ("log: true", "log: false"),
        ("when: {quantizer.name: binary}", "when: {quantizer.name: ternary}"),
        (", when: {quantizer.name: binary}", ""),
        ("sampler: tpe", "sampler: random"),
        ("seed: 1", "seed: 2"),
    ],
)
def test_a_change_of_what_trials_are_changes_the_guard(load, old, new):
    assert old in GUARDED
    before, after = load(GUARDED), load(GUARDED.replace(old, new))
    assert after.hash() != before.hash()
    assert after.guard() != before.guard()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("binary", "binary"),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        ([0.5, 1], "[0.5, 1]"),
        ({"name": "stages", "ratios": [0.5, 1]}, "stages ratios=[0.5, 1]"),
        ({"num_stages": 4, "name": "average"}, "average num_stages=4"),
        ({"name": "sgd", "schedule": {"name": "cosine"}}, "sgd schedule=cosine"),
        ({"lr": 0.1}, "lr=0.1"),
    ],
)
def test_a_label_reads_like_the_choice(value, expected):
    assert label(value) == expected


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
        ("num_epochs=3", 'Did you mean "trial.num_epochs"?'),
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


RECIPE = """
space:
  optimizer.name: {choice: [sgd, adamw]}
  optimizer.nesterov: {choice: [true, false], when: {optimizer.name: sgd}}
  optimizer.decay: {choice: [all, weights]}
  optimizer.warmup: {float: [0, 0.2]}
  regularization.label_smoothing: {float: [0, 0.2]}
  regularization.mixup: {choice: [0, 0.2], when: {optimizer.decay: weights}}
  regularization.cutout: {int: [0, 4]}
  regularization.random_erasing: {float: [0, 0.5]}
  ema.decay: {choice: [0, 0.99]}
"""


def test_the_whole_recipe_can_be_searched_with_conditions(load):
    space = load(RECIPE)
    first = {path: parameter.samples()[-1] for path, parameter in space.space.items()}
    assert set(first) == set(space.space)
    values = {}
    for path, _ in space.active(values):
        values[path] = first[path]
    assert "optimizer.nesterov" not in values  # adamw
    config = space.config(values)
    assert config.optimizer == Optimizer(name="adamw", decay="weights", warmup=0.2)
    assert config.ema == Ema(decay=0.99)
    assert config.regularization == Regularization(
        label_smoothing=0.2, mixup=0.2, cutout=4, random_erasing=0.5
    )
    assert space.config({"optimizer.nesterov": True}).optimizer == Optimizer(nesterov=True)

"""The points of a space against counting by hand and against going through all of them."""

from __future__ import annotations

import itertools
import math
import random
import time
from pathlib import Path

import pytest

from sqtune.config.grid import count, draw, endless, points
from sqtune.config.load import load_space
from sqtune.config.space import SearchSpace
from sqtune.errors import ConfigError


def space_of(parameters, trial=None, **more):
    return SearchSpace.model_validate(
        {"name": "study", "space": parameters, "trial": trial or {}, **more}, strict=False
    )


LINKED = {
    "quantizer.scale_steps": {"int": [0, 9], "when": {"quantizer.bits": [2, 3]}},
    "quantizer.bits": {"choice": [2, 3, 8], "when": {"quantizer.name": "uniform"}},
    "quantizer.name": {"choice": ["binary", "uniform"]},
    "batch_size": {"choice": [32, 64], "when": {"num_epochs": 4}},
    "seed": {"int": [0, 9], "when": {"num_epochs": 3, "quantizer.name": "binary"}},
}


@pytest.mark.parametrize(
    ("parameters", "trial", "by_hand"),
    [
        ({}, {}, 1),
        ({"seed": {"int": [0, 9]}}, {}, 10),
        ({"seed": {"int": [0, 9], "step": 4}}, {}, 3),
        ({"batch_size": {"int": [1, 100], "log": True}}, {}, 100),
        ({"optimizer.lr": {"float": [0.1, 0.5], "step": 0.1}}, {}, 5),
        ({"optimizer.lr": {"float": [0.1, 0.45], "step": 0.1}}, {}, 4),
        ({"seed": {"int": [1, 3]}, "batch_size": {"choice": [32, 64]}}, {}, 6),
        # binary with 10 seeds; uniform at 8 bits, and at 2 and 3 bits with 10 steps each
        (LINKED, {"num_epochs": 3}, 10 + 1 + 20),
        # without seeds, but with two batch sizes
        (LINKED, {"num_epochs": 4}, (1 + 1 + 20) * 2),
        (
            {
                "activation_bits": {"choice": [32, 8, 4]},
                "activation_clipping": {
                    "choice": ["lsq", "pact"],
                    "when": {"activation_bits": [8, 4]},
                },
                "activation_ends_bits": {"choice": [8, 32], "when": {"activation_bits": 4}},
                "quantizer.name": {"choice": ["binary", "ternary"]},
            },
            {},
            (1 + 2 + 2 * 2) * 2,
        ),
    ],
)
def test_points_are_as_many_as_counted_by_hand_and_all_differ(parameters, trial, by_hand):
    space = space_of(parameters, trial)
    listed = [tuple(values.items()) for values in points(space)]
    assert count(space) == len(listed) == len(set(listed)) == by_hand


def test_every_point_has_exactly_the_values_whose_conditions_hold():
    space = space_of(LINKED, {"num_epochs": 3})
    for values in points(space):
        assert [path for path, _ in space.active(values)] == list(values)
        space.config(values)


def test_points_stand_in_the_order_of_nested_loops():
    space = space_of(
        {
            "quantizer.name": {"choice": ["ternary", "binary"]},
            "optimizer.lr": {"float": [0.1, 0.3], "step": 0.1},
            "seed": {"int": [5, 7], "step": 2},
        }
    )
    loops = itertools.product(["ternary", "binary"], [0.1, 0.2, 0.3], [5, 7])
    assert [tuple(values.values()) for values in points(space)] == list(loops)


def test_a_choice_of_mappings_is_handed_over_whole():
    schedules = [{"name": "average"}, {"name": "linear", "warmup": 0.1}]
    space = space_of({"schedule": {"choice": schedules}})
    assert [values["schedule"] for values in points(space)] == schedules


ENDLESS = {"seed": {"int": [0, 1]}, "optimizer.lr": {"float": [0.1, 0.3], "log": True}}


def test_a_float_without_step_is_endless_and_no_grid():
    space = space_of(ENDLESS)
    assert endless(space) == ["optimizer.lr"]
    assert count(space) is None
    with pytest.raises(ConfigError, match=r"space\.optimizer\.lr: a grid .* Give it a step"):
        points(space)


def test_what_cannot_be_gone_through_is_counted_at_once():
    rules = [{"match": f"group1.{index}", "quantizer": {"name": "binary"}} for index in range(20)]
    parameters = {"seed": {"int": [0, 2**53 - 1]}}
    for index in range(20):
        name = f"overrides.{index}.quantizer.name"
        parameters[name] = {"choice": ["binary", "ternary", "uniform"]}
        parameters[f"overrides.{index}.quantizer.bits"] = {
            "choice": [2, 3, 4, 8],
            "when": {name: "uniform"},
        }
    # many values that act alike are one branch, and are not listed
    parameters["batch_size"] = {"choice": [32, 64], "when": {"seed": 5}}
    started = time.perf_counter()
    number = count(space_of(parameters, {"overrides": rules}))
    assert number == (2 + 4) ** 20 * (2**53 + 1)
    assert time.perf_counter() - started < 20


def test_draws_are_points_and_come_as_often_as_a_random_sampler_would_have_them():
    space = space_of(LINKED, {"num_epochs": 3})
    known = [frozenset(values.items()) for values in points(space)]
    generator = random.Random(0)
    drawn = [frozenset(draw(space, generator).items()) for _ in range(4000)]
    assert set(drawn) == set(known)
    # binary: 1/2; uniform: 1/2, then a third for 8 bits
    for name, chance in {("quantizer.name", "binary"): 1 / 2, ("quantizer.bits", 8): 1 / 6}.items():
        share = sum(name in values for values in drawn) / len(drawn)
        assert abs(share - chance) < 4 * math.sqrt(chance * (1 - chance) / len(drawn))


def test_draws_on_a_logarithmic_scale_have_their_median_in_its_middle():
    space = space_of(
        {
            "optimizer.lr": {"float": [0.001, 1.0], "log": True},
            "batch_size": {"int": [4, 1024], "log": True},
            "optimizer.momentum": {"float": [0.5, 0.9]},
        }
    )
    generator = random.Random(1)
    drawn = [draw(space, generator) for _ in range(2000)]
    medians = {path: sorted(values[path] for values in drawn)[1000] for path in drawn[0]}
    assert medians["optimizer.lr"] == pytest.approx(0.0316, rel=0.25)
    assert medians["batch_size"] == pytest.approx(64, rel=0.2)
    assert medians["optimizer.momentum"] == pytest.approx(0.7, abs=0.02)
    assert {type(values["batch_size"]) for values in drawn} == {int}
    assert [draw(space, random.Random(7)) for _ in range(2)] == [draw(space, random.Random(7))] * 2


@pytest.mark.parametrize("name", ["resnet", "mixed_digits", "cifar10_resnet20"])
def test_shipped_spaces_have_configurations_at_every_draw(name):
    space = load_space(Path(__file__).parents[2] / "search_spaces" / f"{name}.yaml")
    generator = random.Random(0)
    assert len({space.config(draw(space, generator)) for _ in range(50)}) > 40

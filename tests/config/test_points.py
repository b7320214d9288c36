"""Points of a space: what is wrong with one is told with its line; what is right is taken."""

from __future__ import annotations

import pytest
from mistakes import assert_told, cases

from sqtune.config import load_space

SPACE = """
trial: {num_epochs: 4, batch_size: 32, quantizer: {name: uniform}}
space:
  optimizer.lr: {float: [0.1, 0.5], step: 0.1}
  optimizer.momentum: {float: [0, 0.95]}
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {int: [2, 8], step: 2, when: {quantizer.name: uniform}}
  schedule: {choice: [{name: linear}, {name: average, num_stages: 3}]}
  schedule.warmup: {float: [0, 0.5], when: {batch_size: 64}}
points:
"""

MISTAKES = """
== misspelled path
  - {optimizer.lrr: 0.1}  #! points.0.optimizer.lrr: a point gives values & Did you mean "optimizer
== path that is fixed
  - {quantizer.name: binary}
  - {num_epochs: 8}  #! points.1.num_epochs: it is fixed at 4: take it out
== path of the trial that is not searched
  - {activation_bits: 8}  #! points.0.activation_bits: a point gives values that are searched
== outside the range
  - {optimizer.momentum: 0.99}  #! points.0.optimizer.momentum: 0.99 is not & lie from 0.0 to 0.95
== between two steps
  - {optimizer.lr: 0.15}  #! points.0.optimizer.lr: 0.15 is not & from 0.1 to 0.5 in steps of 0.1
== no whole number
  - quantizer.name: uniform
    quantizer.bits: 2.5  #! points.0.quantizer.bits: 2.5 is not & whole numbers from 2 to 8
== unknown choice
  - {schedule: {name: average, num_stages: 4}}  #! points.0.schedule: & Did you mean "average num_st
== text for a number
  - {optimizer.momentum: "0.9"}  #! points.0.optimizer.momentum: "0.9" is not & lie from
== condition left open
  - {quantizer.bits: 4}  #! points.0.quantizer.bits: it depends on quantizer.name & add it
== condition that does not hold
  - {quantizer.name: binary, quantizer.bits: 4}  #! points.0.quantizer.bits: it is & "uniform", not
== condition on a fixed value
  - {schedule.warmup: 0.1}  #! points.0.schedule.warmup: it is searched only where batch_size is 64
== no mapping
  - 3  #! points.0: a mapping is needed here
"""


@pytest.mark.parametrize("text", cases(MISTAKES))
def test_a_mistake_in_a_point_is_told_with_its_line(tmp_path, text):
    assert_told(tmp_path, SPACE + text)


def test_whole_and_partial_points_and_the_last_step_are_taken(tmp_path):
    path = tmp_path / "space.yaml"
    points = """
  - {optimizer.lr: 0.5, optimizer.momentum: 0, schedule: {name: average, num_stages: 3},
     quantizer.name: uniform, quantizer.bits: 8}
  - {optimizer.lr: 0.3}
"""
    path.write_text(SPACE + points)
    space = load_space(path)
    assert space.points[0]["quantizer.bits"] == 8
    assert space.points[1] == {"optimizer.lr": 0.3}


def test_a_configuration_that_no_point_can_have_is_told_at_the_point(tmp_path):
    """2.9 is inside the range, and only a whole look at the configuration finds it wrong."""
    path = tmp_path / "space.yaml"
    text = """name: study
trial: {num_epochs: 4}
space: {optimizer.lr: {float: [0.1, 0.5]}}
points: [{optimizer.lr: 0.2}]
"""
    path.write_text(text)
    space = load_space(path)
    from sqtune.config.point_check import wrong_points

    def wrong(space, values):
        yield ("trial", "optimizer", "lr"), f"{values['optimizer.lr']} never works"

    assert list(wrong_points(space, wrong)) == [
        (("points", 0), "trial.optimizer.lr: 0.2 never works")
    ]


POINTS = """
trial: {num_epochs: 4}
space:
  quantizer.name: {choice: [binary, ternary]}
  optimizer.lr: {float: [0.01, 0.3]}
  schedule: {choice: [{name: exponential}, {name: average}]}
points:
  - {quantizer.name: binary, optimizer.lr: 0.1}
  - {quantizer.name: ternary, schedule: {name: average}}
"""


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("trial.quantizer.name=binary", [{"optimizer.lr": 0.1}]),
        ("trial.quantizer.name=float", []),
        (
            "trial.optimizer.lr=0.1",
            [
                {"quantizer.name": "binary"},
                {"quantizer.name": "ternary", "schedule": {"name": "average"}},
            ],
        ),
        ("trial.schedule.name=cubic", [{"quantizer.name": "binary", "optimizer.lr": 0.1}]),
        ("points=[]", []),
    ],
)
def test_a_value_fixed_by_an_override_leaves_the_points(tmp_path, override, left):
    path = tmp_path / "space.yaml"
    path.write_text(POINTS)
    assert load_space(path, [override]).points == left

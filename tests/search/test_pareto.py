"""Fronts, knees and the best under a budget: by hand, and against comparing every pair."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqtune.config.trial import TrialConfig
from sqtune.quant import Float, Ternary
from sqtune.search.pareto import (
    ERROR_AND_SIZE,
    best,
    compared,
    front,
    knee,
    objective_values,
    ranking,
)
from sqtune.search.records import TrialRecord


def ended(number, val_error, size_bytes=None, **more):
    facts = more.pop("facts", {})
    if size_bytes is not None:
        facts = {"size_bytes": size_bytes, **facts}
    return TrialRecord(
        number=number,
        state=more.pop("state", "finished"),
        values={},
        config=TrialConfig(quantizer=more.pop("quantizer", Ternary())),
        epochs=({"val_error": val_error, "time": 0},),
        facts=facts,
        failure=None,
        run_id=None,
        test_error=None,
        **more,
    )


def numbers(trials):
    return [trial.number for trial in trials]


#                 number, error, size
TRIALS = [
    ended(0, 0.10, 1000),
    ended(1, 0.05, 4000),
    ended(2, 0.05, 2000),
    ended(3, 0.02, 9000),
    ended(4, 0.12, 3000),
    ended(5, 0.02, 9000),
    ended(6, 0.01, 500, state="stopped"),
    ended(7, 0.01, 40_000, quantizer=Float()),
]


def test_the_ranking_is_by_error_then_size_then_age():
    assert numbers(ranking(TRIALS)) == [7, 3, 5, 2, 1, 0, 4]


@pytest.mark.parametrize(
    ("limits", "number"),
    [
        ({}, 3),
        ({"max_size_bytes": 9000}, 3),
        ({"max_size_bytes": 8999}, 2),
        ({"max_size_bytes": 1999}, 0),
        ({"max_size_bytes": 999}, None),
        ({"max_error": 0.5}, 0),
        ({"max_error": 0.10}, 0),
        ({"max_error": 0.09}, 2),
        ({"max_error": 0.02}, 3),
        ({"max_error": 0.015}, 7),  # only the float baseline is that good
        ({"max_error": 0.005}, None),
        ({"max_error": 0.09, "max_size_bytes": 1000}, None),
        ({"max_error": 0.09, "max_size_bytes": 3000}, 2),
    ],
    ids=str,
)
def test_the_best_within_limits(limits, number):
    top = best(TRIALS, **limits)
    assert (top and top.number) == number


def test_of_equally_small_networks_within_an_error_the_better_one_is_the_best():
    assert best([ended(0, 0.09, 1000), ended(1, 0.08, 1000)], max_error=0.1).number == 1


def test_a_trial_that_repeats_another_is_never_named():
    trials = [replace(ended(0, 0.1, 10), duplicate_of=1), ended(1, 0.1, 10)]
    assert best(trials).number == knee(trials).number == 1
    assert numbers(front(trials)) == [1]


def test_a_size_that_is_not_known_is_within_no_limit():
    assert best([ended(0, 0.1)]).number == 0
    assert best([ended(0, 0.1)], 10**9) is None
    assert front([ended(0, 0.1)]) == []
    assert knee([ended(0, 0.1)]) is None


def test_a_front_by_hand():
    assert numbers(front(TRIALS)) == [3, 2, 0]
    assert numbers(front(TRIALS, ["val_error"])) == [3]
    assert front([]) == []
    assert compared(["val_error"]) == ERROR_AND_SIZE
    assert compared(["val_error", "bit_operations"]) == ["val_error", "bit_operations"]


def test_bit_operations_can_be_an_objective():
    trials = [
        ended(0, 0.1, 10, facts={"bit_operations": 5}),
        ended(1, 0.1, 20, facts={"bit_operations": 4}),
        ended(2, 0.2, 20, facts={"bit_operations": 5}),
        ended(3, 0.0, 20),
    ]
    objectives = ["val_error", "size_bytes", "bit_operations"]
    assert objective_values(trials[1], objectives) == (0.1, 20, 4)
    assert numbers(front(trials, objectives)) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(0, 3)), max_size=25))
def test_a_front_is_what_nothing_else_equals_or_beats(points):
    trials = [
        ended(number, error / 10, size, facts={"bit_operations": operations})
        for number, (error, size, operations) in enumerate(points)
    ]
    names = ["val_error", "size_bytes", "bit_operations"]
    for objectives in (names[:1], names[:2], names):
        values = {trial.number: objective_values(trial, objectives) for trial in trials}
        found = front(trials, objectives)
        on_front = {values[trial.number] for trial in found}
        beaten = {
            mine
            for mine in values.values()
            for other in values.values()
            if other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
        }
        assert on_front == set(values.values()) - beaten
        assert len(found) == len(on_front)
        assert found == ranking(found)
        if trials and objectives != names:
            assert best(trials) in found


def test_a_knee_by_hand():
    # log size from 1 to 16: 0, 1/4, 1/2, 1; error from 0.5 to 0.1: 1, 0.75, 0.25, 0
    trials = [ended(0, 0.5, 1), ended(1, 0.4, 2), ended(2, 0.2, 4), ended(3, 0.1, 16)]
    assert knee(trials).number == 2  # 1/4 below the chord; trial 1 lies on it
    assert knee([*trials, ended(4, 0.15, 3)]).number == 4
    assert knee([*trials, ended(4, 0.15, 17)]).number == 2  # beaten, so not of the front


def test_a_front_that_does_not_bend_has_its_knee_at_the_smallest_error():
    assert knee([ended(0, 0.5, 1), ended(1, 0.1, 16)]).number == 1
    assert knee([ended(0, 0.5, 1), ended(1, 0.3, 4), ended(2, 0.1, 16)]).number == 2  # a line
    assert knee([ended(0, 0.5, 1), ended(1, 0.45, 4), ended(2, 0.1, 16)]).number == 2  # above it
    assert knee([ended(0, 0.5, 7)]).number == 0
    assert knee([]) is None

"""Rungs: the better part goes on, compared with what is comparable, whatever the order."""

from __future__ import annotations

import math
import random
import statistics
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqtune.config.options import EarlyStopping
from sqtune.search.rungs import Rungs

COMPARES = ("same_ratio", "centred", "all")


class Arrival(NamedTuple):
    value: float
    ratio: float = 1.0
    size_bytes: int = 1000
    epoch: int = 6


arrivals = st.lists(
    st.builds(
        Arrival,
        value=st.integers(0, 8).map(lambda eighths: eighths / 8),
        ratio=st.sampled_from((0.5, 0.75, 1.0)),
        size_bytes=st.sampled_from((100, 200, 300)),
        epoch=st.sampled_from((6, 9)),
    ),
    max_size=40,
)


def rungs_of(found, *, several_objectives=False, **early):
    early = EarlyStopping(name="pause", **early)
    rungs = Rungs(early, several_objectives=several_objectives)
    for number, arrival in enumerate(found):
        add(rungs, number, arrival)
    return rungs


def add(rungs, number, arrival):
    value, ratio, size_bytes, epoch = arrival
    rungs.add(number, epoch, value, ratio, size_bytes, num_epochs=12)


def by_definition(found, number, early, several_objectives):
    """The rule written down plainly: sort what is comparable, look where the trial stands."""
    own = found[number]
    rung = [(i, one) for i, one in enumerate(found) if one.epoch == own.epoch]
    medians = dict.fromkeys((one.ratio for _, one in rung), 0.0)
    if early.compare == "same_ratio":
        rung = [(i, one) for i, one in rung if one.ratio == own.ratio]
    if early.compare == "centred":
        groups = {r: [one.value for _, one in rung if one.ratio == r] for r in medians}
        if len(groups[own.ratio]) < early.min_trials:
            return True
        medians = {
            ratio: statistics.median(values)
            for ratio, values in groups.items()
            if len(values) >= early.min_trials
        }
    comparable = sorted(
        (one.value - medians[one.ratio], i)
        for i, one in rung
        if one.ratio in medians and (not several_objectives or one.size_bytes <= own.size_bytes)
    )
    if len(comparable) < early.min_trials:
        return True
    part = max(1, math.floor(early.keep * len(comparable) + 1e-9))
    worst = comparable[part - 1][0]
    return own.value - medians[own.ratio] <= worst


@pytest.mark.parametrize("several_objectives", [False, True])
@pytest.mark.parametrize("compare", COMPARES)
@given(
    found=arrivals,
    keep=st.sampled_from((0.25, 0.5, 0.7)),
    min_trials=st.integers(2, 5),
)
def test_the_better_part_of_the_comparable_goes_on(
    compare, several_objectives, found, keep, min_trials
):
    rungs = rungs_of(
        found,
        several_objectives=several_objectives,
        compare=compare,
        keep=keep,
        min_trials=min_trials,
    )
    wanted = [
        by_definition(found, number, rungs.early, several_objectives)
        for number in range(len(found))
    ]
    assert [rungs.goes_on(number, one.epoch) for number, one in enumerate(found)] == wanted
    for number, one in enumerate(found):
        rungs.hold(number, one.epoch)
    assert sorted(rungs.promotable()) == [number for number, goes in enumerate(wanted) if goes]


@given(found=arrivals, seed=st.integers(0, 99))
@pytest.mark.parametrize("compare", COMPARES)
def test_a_study_read_again_in_another_order_is_judged_alike(compare, found, seed):
    rungs = rungs_of(found, compare=compare)
    again = rungs_of([], compare=compare)
    numbers = list(range(len(found)))
    random.Random(seed).shuffle(numbers)
    for number in [*numbers, *numbers[:5]]:  # some are reported twice
        add(again, number, found[number])
    for number, one in enumerate(found):
        assert again.goes_on(number, one.epoch) == rungs.goes_on(number, one.epoch)
        for both in (rungs, again):
            both.hold(number, one.epoch)
    assert again.promotable() == rungs.promotable()


def test_too_few_to_compare_all_go_on():
    rungs = rungs_of([Arrival(0.1), Arrival(0.5), Arrival(0.9)], min_trials=4)
    assert all(rungs.goes_on(number, 6) for number in range(3))
    add(rungs, 3, Arrival(0.7))
    assert [rungs.goes_on(number, 6) for number in range(4)] == [True, True, False, False]


def test_equal_values_have_the_same_place():
    rungs = rungs_of([Arrival(0.9)] * 8)
    assert all(rungs.goes_on(number, 6) for number in range(8))
    rungs = rungs_of([Arrival(value) for value in (0.2, 0.1, 0.2, 0.3, 0.3, 0.2)])
    assert [number for number in range(6) if rungs.goes_on(number, 6)] == [0, 1, 2, 5]


def test_even_the_smallest_share_lets_the_best_go_on():
    rungs = rungs_of([Arrival(value) for value in (0.4, 0.1, 0.2, 0.3)], keep=0.05)
    assert [rungs.goes_on(number, 6) for number in range(4)] == [False, True, False, False]


def test_the_same_ratio_is_compared_with_itself_alone():
    low = [Arrival(0.1 + number / 100, ratio=0.5) for number in range(4)]
    high = [Arrival(0.6 + number / 100, ratio=1.0) for number in range(4)]
    goes = rungs_of([*low, *high], compare="same_ratio")
    assert [goes.goes_on(number, 6) for number in range(8)] == [True, True, False, False] * 2
    goes = rungs_of([*low, *high], compare="all")
    assert [goes.goes_on(number, 6) for number in range(8)] == [True] * 4 + [False] * 4


def test_centred_values_are_compared_across_ratios():
    low = [Arrival(value, ratio=0.5) for value in (0.10, 0.11, 0.12, 0.13)]
    high = [Arrival(value, ratio=1.0) for value in (0.50, 0.59, 0.61, 0.70)]
    rungs = rungs_of([*low, *high], compare="centred", keep=0.25)
    goes = [number for number in range(8) if rungs.goes_on(number, 6)]
    assert goes == [0, 4]


def test_a_small_network_is_never_held_because_of_larger_ones():
    large = [Arrival(0.01 * number, size_bytes=9000) for number in range(8)]
    small = Arrival(0.9, size_bytes=100)
    rungs = rungs_of([*large, small], several_objectives=True)
    assert rungs.goes_on(8, 6)
    assert not rungs_of([*large, small]).goes_on(8, 6)
    larger = Arrival(0.9, size_bytes=9001)
    assert not rungs_of([*large, larger], several_objectives=True).goes_on(8, 6)


def test_trainings_of_other_lengths_are_not_compared():
    rungs = rungs_of([Arrival(number / 10) for number in range(4)])
    rungs.add(4, 6, 0.9, 1.0, 1000, num_epochs=8)
    assert rungs.goes_on(4, 6)


def test_a_held_trial_goes_on_once_others_turn_out_worse():
    rungs = rungs_of([Arrival(value) for value in (0.1, 0.2, 0.3, 0.4)])
    rungs.hold(2, 6)
    rungs.hold(3, 6)
    assert rungs.promotable() == []
    add(rungs, 4, Arrival(0.5))
    assert rungs.promotable() == []
    add(rungs, 5, Arrival(0.6))
    assert rungs.promotable() == [2]
    rungs.release(2)
    assert rungs.promotable() == []


def test_a_trial_that_reaches_the_next_rung_waits_no_longer_at_the_last():
    rungs = rungs_of([Arrival(value) for value in (0.1, 0.2, 0.3, 0.4)])
    rungs.hold(0, 6)
    assert rungs.promotable() == [0]
    add(rungs, 0, Arrival(0.05, epoch=9))
    assert rungs.promotable() == []


def test_the_highest_rung_is_served_first_then_the_best():
    early = [Arrival(value) for value in (0.3, 0.1, 0.2, 0.4, 0.5, 0.6)]
    late = [Arrival(value, epoch=9) for value in (0.35, 0.25, 0.45, 0.55)]
    rungs = rungs_of([*early, *late])
    for number, one in enumerate([*early, *late]):
        rungs.hold(number, one.epoch)
    assert rungs.promotable() == [7, 6, 1, 2, 0]


def test_what_is_not_measured_goes_on_and_holds_no_one():
    rungs = rungs_of([Arrival(value) for value in (0.1, 0.2, 0.3)])
    rungs.add(3, 6, None, 0.0, 1000, num_epochs=12)
    assert rungs.goes_on(3, 6)
    assert rungs.goes_on(2, 6)
    assert rungs.goes_on(99, 6)


def test_a_trial_held_where_there_is_no_rung_any_more_goes_on_first():
    rungs = rungs_of([Arrival(value) for value in (0.1, 0.2, 0.3, 0.4)])
    rungs.hold(0, 6)
    rungs.hold(3, 5)
    assert rungs.promotable() == [3, 0]
    rungs.release(3)
    assert rungs.promotable() == [0]


def test_what_cannot_be_compared_is_an_error():
    rungs = rungs_of([], several_objectives=True)
    with pytest.raises(ValueError, match="trial 7, epoch 6: nan cannot be compared"):
        rungs.add(7, 6, math.nan, 1.0, 1000)
    with pytest.raises(ValueError, match="its size is needed"):
        rungs.add(7, 6, 0.5, 1.0, None)


@pytest.mark.parametrize("several_objectives", [False, True])
@pytest.mark.parametrize("compare", COMPARES)
def test_ten_thousand_trials_take_little_time(compare, several_objectives):
    """The bounds are many times what it takes, so that a busy machine does not fail them."""
    draws = random.Random(0)
    rungs = rungs_of([], several_objectives=several_objectives, compare=compare)
    started = time.process_time()
    for number in range(10_000):  # every one of another size
        ratio, size = draws.choice((0.5, 0.75, 1.0)), draws.randrange(10**6)
        add(rungs, number, Arrival(draws.random(), ratio, size))
        if number % 100 == 99:
            rungs.goes_on(number, 6)
        if number % 2:
            rungs.hold(number, 6)
    assert (time.process_time() - started) / 10_000 < 0.001
    started = time.process_time()
    assert rungs.promotable()
    assert time.process_time() - started < 2

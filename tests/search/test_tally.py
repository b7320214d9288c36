"""What has happened in a search: counted as it comes, and how long it will take yet."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from sqtune.search.pareto import best, front
from sqtune.search.tally import MOST_OTHERS, Tally
from sqtune.search.time_left import Pace

from .seen import NUM_EPOCHS, after, epoch, epochs, failed, train, trial


def test_best_and_front_are_those_of_all_trials():
    trials = [trial(number, "finished", 0.5 / (1 + number * 7 % 23)) for number in range(40)]
    tally = Tally(40)
    for one in trials:
        tally.trial_ended(one)
    assert tally.best == best(trials)
    assert tally.front == front(trials)
    assert len(tally.others) == len(trials) - len(tally.front)


def test_what_is_refused_or_repeats_another_does_not_count():
    tally = Tally(4)
    tally.trial_ended(trial(0, "finished", 0.1))
    tally.trial_ended(trial(1, "refused", why="too large"))
    tally.trial_ended(trial(2, "finished", 0.01, duplicate_of=0))
    assert tally.num_ended == 1
    assert (tally.counts["refused"], tally.counts["repeated"]) == (1, 1)
    assert tally.best is not None
    assert tally.best.number == 0
    assert epochs(tally) == (NUM_EPOCHS - 2, 2, 0)


def test_epochs_are_counted_once_however_often_a_trial_begins():
    tally = Tally(2)
    train(tally, 0, 3, now=0.0)
    tally.trial_left(0)  # another study trains what it needs next
    assert epochs(tally) == (3, 0, 0)
    tally.trial_started(trial(0), 10.0)
    again = [epoch(i) for i in (1, 2, 3)] + [epoch(4, restored=1.0), epoch(5)]
    tally.reported({"number": 0, "epochs": again}, 12.0)
    assert epochs(tally) == (4, 1, 0)
    tally.trial_ended(replace(trial(0, "stopped"), epochs=tuple(again)))
    assert epochs(tally) == (4, 1, 3)


def test_a_failed_trial_has_epochs_that_were_never_begun():
    tally = Tally(2)
    tally.trial_ended(failed(0))
    assert epochs(tally) == (2, 0, NUM_EPOCHS - 2)


def test_who_begins_takes_a_free_place_and_the_others_keep_theirs():
    tally = Tally(9)
    for number in (0, 1, 2):
        tally.trial_started(trial(number), 0.0)
    tally.trial_ended(trial(1, "finished"))
    assert [one and one.trial.number for one in tally.slots] == [0, None, 2]
    tally.trial_started(trial(3), 1.0)
    assert [one and one.trial.number for one in tally.slots] == [0, 3, 2]
    tally.trial_held(2)
    tally.trial_left(3)
    assert [one and one.trial.number for one in tally.slots] == [0]


def test_a_held_trial_goes_on_with_what_it_had():
    tally = Tally(2)
    train(tally, 0, 4, now=0.0)
    assert tally.trial_held(0).epoch == 4
    assert tally.held[0].trial.number == 0
    tally.trial_started(trial(0), 100.0)
    assert not tally.held
    assert [(one.epoch, one.since) for one in tally.running] == [(4, 100.0)]


def test_a_stage_is_that_of_the_last_epoch():
    tally = Tally(1)
    stages = []
    for num in range(NUM_EPOCHS + 1):
        train(tally, 0, num, now=0.0)
        (one,) = tally.running
        stages.append((one.stage, len(one.stage_ends)))
    assert stages == [(max(1, (epoch + 1) // 2), 4) for epoch in range(NUM_EPOCHS + 1)]


def test_a_look_costs_no_more_after_10_000_trials():
    def seconds(num_trials: int) -> float:
        tally = after(num_trials, target=20_000)
        train(tally, num_trials, 3, now=0.0)
        tally.trial_started(trial(num_trials + 1), 1.0)
        assert len(tally.others) <= MOST_OTHERS
        begun = time.perf_counter()
        for _ in range(200):
            assert tally.seconds_left(10.0) is not None
        return time.perf_counter() - begun

    few, many = min(seconds(10) for _ in range(3)), min(seconds(10_000) for _ in range(2))
    assert many < 5 * few


# --- time left: two slots, epochs of 2 s, 8 epochs a trial of which 2 are shared


def test_nobody_knows_at_first_how_long_it_will_take():
    tally = Tally(4)
    assert tally.seconds_left(0.0) is None
    tally.trial_started(trial(0), 0.0)
    tally.trial_started(trial(1), 0.0)
    tally.reported({"number": 0, "epochs": [epoch(1)]}, 2.0)
    assert tally.seconds_left(2.0) is None
    tally.reported({"number": 1, "epochs": [epoch(1), epoch(2)]}, 4.0)
    assert tally.seconds_left(4.0) is not None


def test_what_is_left_is_told_in_epochs_not_in_trials():
    tally = Tally(10)
    for number in (0, 1):
        tally.trial_started(trial(number), 0.0)
    for i in range(1, 5):
        for number in (0, 1):
            tally.reported({"number": number, "epochs": [epoch(i)]}, 2.0 * i)
    # one a second; 2 x 4 epochs are left, and 8 trials of 8: no trial has ended yet
    assert tally.seconds_left(8.0) == pytest.approx(2 * 4 + 8 * 8)
    assert tally.seconds_left(9.0) == pytest.approx(2 * 4 + 8 * 8 - 1)
    tally.trial_ended(trial(5, "finished"))  # now one has, with 6 of its own
    assert tally.seconds_left(8.0) == pytest.approx(2 * 4 + 7 * 6)


def test_the_last_trial_takes_as_long_as_its_own_epochs():
    tally = Tally(2)
    tally.trial_started(trial(0), 0.0)
    tally.trial_started(trial(1), 0.0)
    for i in range(1, 7):
        tally.reported({"number": 0, "epochs": [epoch(i)]}, 2.0 * i)
    tally.reported({"number": 1, "epochs": [epoch(1, seconds=12.0)]}, 12.0)
    # seven epochs in 12 s, nine are left; but seven of them, of 12 s each, on one slot
    assert tally.seconds_left(12.0) == pytest.approx(7 * 12.0)


def test_shared_epochs_take_no_time():
    tally = Tally(1)
    tally.trial_started(trial(0), 0.0)
    restored = [epoch(i, seconds=0.01, restored=1.0) for i in (1, 2, 3)]
    tally.reported({"number": 0, "epochs": restored}, 0.03)
    assert tally.seconds_left(0.03) is None
    tally.reported({"number": 0, "epochs": [epoch(i) for i in (4, 5, 6)]}, 6.03)
    assert tally.seconds_left(6.03) == pytest.approx(2 * 2.0)


def test_the_pace_is_that_of_the_last_reports():
    pace = Pace()
    for i in range(1, 200):
        pace.trained([1.0], float(i))
    for i in range(1, 151):
        pace.trained([10.0], 199 + 10.0 * i)
    assert pace.seconds_left(5, [], 199 + 1500) == pytest.approx(50)


def test_nobody_knows_before_as_many_epochs_as_trials_that_run():
    pace, running = Pace(), [(4, None, 0.0)] * 6
    for i in range(1, 6):
        pace.trained([1.0], float(i))
    assert pace.seconds_left(20, running, 5.0) is None
    pace.trained([1.0], 6.0)
    assert pace.seconds_left(20, running, 6.0) == pytest.approx(20)

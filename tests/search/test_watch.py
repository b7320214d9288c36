"""`sqtune show --watch`: a study that another process drives, as it goes on."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time

import pytest

from sqtune.search.look import load_study, trials_now
from sqtune.search.watch import Watch

from .panes import Panes, needs_tmux
from .seen import epochs
from .studies import asked, finish, new_store, on_digits, opened, space_of

SPACE = """
name: watched study 層
trial: {network: {name: resnet8, width: 4}, num_epochs: 4}
space: {optimizer.lr: {float: [0.02, 0.3]}}
search: {num_trials: 6}
"""
METRICS = {"train_loss": 1.0, "val_error": 0.25, "ratio": 0.5, "seconds": 2.0}


@pytest.fixture
def driven(tmp_path):
    """Return a store and a study in it that this process drives."""
    store = new_store(tmp_path / "store")
    space = space_of(tmp_path, SPACE)
    with store.driven(space.name):
        yield store, opened(store, space, footprint=on_digits)


def test_each_look_takes_in_what_is_new(driven):
    store, study = driven
    study.set_attr("driven_at", time.time() - 60.0)
    finish(study, asked(study))
    running = asked(study)
    study.report(running.number, 1, METRICS)
    looked, trials = load_study(str(store.root), None, None)
    watch, unix = Watch(looked), time.time()
    assert [trial.number for trial in watch.look(trials, 1000.0, unix)] == [0]
    (row,) = watch.tally.running
    assert (row.trial.number, row.epoch, row.num_epochs) == (running.number, 1, 4)
    assert row.since == pytest.approx(1000.0 - 2.0, abs=1.0)  # it began before

    study.report(running.number, 2, METRICS)
    study.report(running.number, 3, {**METRICS, "val_error": 0.125})
    other = asked(study)
    assert not watch.look(trials_now(looked, str(store.root), None), 1004.0, unix + 4)
    assert [one.trial.number for one in watch.tally.running] == [running.number, other.number]
    assert (row.epoch, row.val_error) == (3, 0.125)

    study.report(running.number, 4, METRICS)
    study.finish(running.number, 0.25, {"num_validation": 449})
    study.report(other.number, 1, METRICS)
    study.pause(other.number, 1)
    ended = watch.look(trials_now(looked, str(store.root), None), 1008.0, unix + 8)
    assert [trial.number for trial in ended] == [running.number]
    assert watch.tally.num_ended == 2
    assert list(watch.tally.held) == [other.number]

    study.resume(other.number)
    study.report(other.number, 2, METRICS)
    watch.look(trials_now(looked, str(store.root), None), 1012.0, unix + 12)
    assert [one.epoch for one in watch.tally.running] == [2]
    assert epochs(watch.tally) == (2 + 4 + 2, 0, 2)
    assert watch.tally.seconds_left(1012.0) is not None


def test_what_nobody_trains_any_more_is_not_running(tmp_path):
    store, space = new_store(tmp_path / "store"), space_of(tmp_path, SPACE)
    with store.driven(space.name):
        study = opened(store, space, footprint=on_digits)
        trial = asked(study)
        study.report(trial.number, 1, METRICS)
        looked, trials = load_study(str(store.root), None, None)
        watch = Watch(looked)
        watch.look(trials, 0.0, time.time())
        assert any(watch.tally.running)
    watch.look(trials_now(looked, str(store.root), None), 2.0, time.time())
    assert not any(watch.tally.running)
    assert epochs(watch.tally) == (1, 0, 0)


def test_a_trial_that_went_on_has_its_time_since_then_and_the_target_is_the_new_one(tmp_path):
    store, space = new_store(tmp_path / "store"), space_of(tmp_path, SPACE)
    first = opened(store, space, footprint=on_digits)
    trial = asked(first)
    first.report(trial.number, 1, {**METRICS, "seconds": 3 * 24 * 3600.0})
    looked, _ = load_study(str(store.root), None, None)
    watch = Watch(looked)
    with store.driven(space.name):
        study = opened(store, space_of(tmp_path, SPACE.replace("6}", "9}")), footprint=on_digits)
        assert asked(study).number == trial.number
        watch.look(trials_now(looked, str(store.root), None), 1000.0, time.time() + 60.0)
    (row,) = watch.tally.running
    assert row.since == pytest.approx(1000.0 - 60.0, abs=5.0)
    assert watch.tally.target == 9


@needs_tmux
def test_a_terminal_shows_what_is_trained_above_the_trials(driven, tmp_path):
    store, study = driven
    finish(study, asked(study), 0.125)
    running = asked(study)
    study.report(running.number, 1, METRICS)
    panes = Panes(tmp_path)
    try:
        command = f"{shlex.quote(sys.executable)} -m sqtune show --watch --store {store.root}"
        for name, width in (("usual", 80), ("narrow", 40)):
            panes.open(name, command, width, 24)
        for name in ("usual", "narrow"):
            panes.wait(name, lambda lines: any("1 of 6 ended, 1 running" in it for it in lines))
            lines = panes.lines(name)
            rows = [line.split() for line in lines]
            assert any(row[:2] == ["1", "1/4"] for row in rows)
            assert any(row[:2] == ["0", "12.50"] for row in rows)
            assert any("watched study 層" in line for line in lines)
        study.report(running.number, 2, METRICS)
        panes.wait("narrow", lambda lines: any(it.split()[:2] == ["1", "2/4"] for it in lines))
    finally:
        panes.close()


def test_without_a_terminal_a_line_is_printed_for_each_trial_that_ends(driven):
    store, study = driven
    finish(study, asked(study))
    command = [sys.executable, "-u", "-m", "sqtune", "show", "--watch", "--store", str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "1 finished" in process.stdout.readline()
            while not (line := process.stdout.readline()).startswith("     0"):
                assert line
            finish(study, asked(study), 0.125)
            while not (line := process.stdout.readline()).startswith("trial   1  error 12.50 ± "):
                assert line
        finally:
            process.terminate()

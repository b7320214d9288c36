"""One network of a study: what was confirmed, within limits, is what every command names."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

import sqtune
from search.studies import asked, new_store, opened, space_of
from sqtune.cli import main
from sqtune.commands.export import _chosen
from sqtune.output import console, print_outcome
from sqtune.report.card import network, overview
from sqtune.report.facts import gather
from sqtune.report.finding import finding
from sqtune.search.choice import choose, is_best
from sqtune.search.confirmed import Confirmation, Confirmed
from sqtune.search.described import description
from sqtune.search.outcome import Outcome

SPACE = """
name: images
trial: {num_epochs: 2, network: {name: resnet8, width: 2}}
space: {optimizer.lr: {float: [0.02, 0.3], log: true}}
search: {num_trials: 4, sampler: random}
"""
ERRORS_AND_SIZES = ((0.01, 9_000), (0.02, 8_000), (0.03, 4_000), (0.05, 3_000))
CONFIRMED = (Confirmed(1, 0.02, (0.02, 0.03), 0, 8_000), Confirmed(2, 0.03, (0.05, 0.07), 0, 4_000))


@pytest.fixture
def store(tmp_path):
    """A store with a study of four trials, of which new seeds of 1 and 2 were tried."""
    store = new_store(tmp_path / "store")
    study = opened(store, space_of(tmp_path, SPACE))
    for error, size in ERRORS_AND_SIZES:
        trial = asked(study)
        for epoch in (1, 2):
            study.report(trial.number, epoch, {"train_loss": 2.0, "val_error": error})
        study.finish(trial.number, error, {"size_bytes": size, "num_validation": 180})
        store.network("images", trial.number).mkdir(parents=True)
    confirm(study, Confirmation("images-confirm", None, CONFIRMED))
    return store


def confirm(study, confirmation):
    study.set_attr(confirmation.attribute, confirmation.as_data())


def reopened(store):
    study = opened(store, space_of(store.root.parent, SPACE))
    return study, study.attrs, study.trials()


@pytest.mark.parametrize(
    ("limits", "number", "grounds"),
    [
        ({}, 1, "confirmed: mean over 2 new seeds 2.50 ± 0.50 %"),
        ({"max_size": 5_000}, 2, "confirmed: mean over 2 new seeds 6.00 ± 1.00 %"),
        ({"max_size": 3_500}, 3, "by one seed; confirmed is trial 1"),
        ({"max_error": 0.05}, 3, "by one seed; confirmed is trial 1"),
        ({"max_error": 0.04}, 1, "confirmed: mean over 2 new seeds 2.50 ± 0.50 %"),  # 2 has 6 %
        ({"max_error": 0.015}, 0, "by one seed; confirmed is trial 1"),
        ({"knee": True}, 2, "confirmed: mean over 2 new seeds 6.00 ± 1.00 %"),
    ],
)
def test_limits_come_first_then_new_seeds_then_one(store, limits, number, grounds):
    study, attrs, trials = reopened(store)
    found = choose(study.name, attrs, trials, **limits)
    assert (found.trial.number, found.grounds) == (number, grounds)
    answer = best(store, limits)
    assert answer.startswith(f"best      trial   {number} ")
    assert ("by one seed; confirmed is trial 1" in answer) == grounds.startswith("by one")
    assert f"--trial {number} " in answer


def best(store, limits):
    words = ["best", "--store", str(store.root)]
    for name, value in limits.items():
        word = f"--{name.replace('_', '-')}"
        words += [word] if value is True else [word, f"{value}B" if value > 1 else f"{value:%}"]
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_one_network_is_named_everywhere(store, capsys):
    study, attrs, trials = reopened(store)
    chosen, grounds = _chosen(store, None, None, None, None, None, (None, None, False))
    assert chosen.source["trial"] == 1
    assert grounds.startswith("confirmed: ")
    page = gather(study, trials, store)
    assert page.winner.number == 1
    choice = choose(study.name, attrs, trials)
    words = description(study.name, trials, choice, page.front)
    assert words.startswith("Best: [trial 1](trial:1), confirmed: mean over 2 new seeds 2.50 ± ")
    opened_study = sqtune.open_study(store=store.root)
    assert opened_study.best().number == 1
    assert "best trial   1 " in repr(opened_study)
    ended = ("images", study.space, "complete", trials, choice, store.network("images", 1))
    with click.Context(main):
        print_outcome(console(), Outcome(*ended, None, None, None, attrs=attrs), store)
    said = capsys.readouterr().out
    assert "best      trial   1 " in said
    assert "confirmed trial   1 has the lowest mean" in said
    assert "sqtune best images" in said
    assert "sqtune confirm" not in said


def test_the_best_is_the_choice_without_limits_and_what_it_repeats(store):
    _, attrs, trials = reopened(store)
    assert [is_best(number, "images", attrs, trials) for number in (0, 1, 2)] == [
        False,
        True,
        False,
    ]
    repeated = [replace(trial, duplicate_of=0) if trial.number == 1 else trial for trial in trials]
    assert is_best(0, "images", attrs, repeated)


def test_a_test_error_has_its_spread_and_images_where_they_are_known(store, capsys):
    study, attrs, trials = reopened(store)
    page = gather(study, trials, store)
    assert ("test error", "not measured for this trial") in network(page, page.winner)
    study.set_test_error(1, 4 / 180, 180)
    page = gather(study, study.trials(), store)
    said = "2.22 ± 1.10 % of 180 images"
    assert f"test      error {said}, measured once" in best(store, {})
    assert ("test error", f"{said}, measured once") in network(page, page.winner)
    assert f"Its test error, measured once, is {said}." in finding(page)
    choice = choose(study.name, attrs, study.trials())
    assert "test error 2.22 ± 1.10 %, " in description("images", trials, choice, [])
    study.set_attr("test_images", {})  # a study of long ago
    assert "test      error 2.22 %, measured once" in best(store, {})


def test_the_page_has_the_mean_first_and_then_what_was_measured_once(store):
    study, _, trials = reopened(store)
    page = gather(study, trials, store)
    mean, once = ("mean over 2 new seeds", "2.50 ± 0.50 %"), "2.00 ± 1.04 %"
    assert overview(page)[:2] == [mean, ("search, once", once)]
    facts = network(page, page.winner)
    assert facts[facts.index(mean) + 1] == ("search, once", f"{once} of 180 images")


def test_a_confirmation_hands_over_its_lowest_training_of_the_lowest_mean(store):
    study, attrs, trials = reopened(store)
    assert choose(study.name, {"confirms": "other"}, trials).trial.number == 0
    assert choose(study.name, {"confirms": "other"}, trials, max_error=0.5).trial.number == 3
    assert choose(study.name, attrs, []) is None


def test_another_budget_confirms_nothing_of_the_study_itself(store):
    study, _, trials = reopened(store)
    longer = Confirmation("images-confirm-200", 200, CONFIRMED)
    found = choose(study.name, {longer.attribute: longer.as_data()}, trials)
    assert (found.trial.number, found.grounds) == (0, "")


def test_the_message_of_limits_that_nothing_meets_has_the_mean(store):
    words = ["best", "--store", str(store.root), "--max-size", "8.5kB", "--max-error", "1%"]
    answer = CliRunner().invoke(main, words)
    assert "the best, trial 1, has 2.50 %" in answer.stderr
    told = json.loads(CliRunner().invoke(main, [*words[:3], "--json"]).stdout)
    assert told["number"] == told["confirmed"]["results"][0]["trial"] == 1

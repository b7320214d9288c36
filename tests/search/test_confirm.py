"""Confirming: the chosen networks with new seeds, judged by the mean; a study of its own."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from sqtune.config import load_space
from sqtune.output import console, print_confirmed
from sqtune.report.card import commands
from sqtune.report.facts import gather
from sqtune.search.choice import Choice
from sqtune.search.confirm import best_by_mean, confirmation_space, confirmed, distinct
from sqtune.search.confirmed import Confirmation, Confirmed, confirmations, lead, rivals
from sqtune.search.described import description
from sqtune.search.pareto import best
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

SPACE = """
trial: {num_epochs: 2, seed: 7}
space:
  schedule: {choice: [{name: exponential}, {name: average, num_stages: 2}]}
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 4, sampler: random}
"""
ERRORS = {0: (0.30, 0.50), 1: (0.35, 0.36)}  # by chosen trial: what new seeds give


@pytest.fixture
def chosen(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SPACE)
    space, store = load_space(path), Store.at(tmp_path / "store")
    store.create()
    study = Study.create_or_continue(open_storage(store, None), space, {})
    for error in (0.2, 0.3):
        trial = study.ask()
        for epoch in (1, 2):
            study.report(trial.number, epoch, {"val_error": error, "train_loss": 1.0})
        study.finish(trial.number, error, {"size_bytes": 100})
    return space, store, study.trials()


def drive(space, store):
    """Train a confirmation: errors as ERRORS says; return its trials."""
    study = Study.create_or_continue(open_storage(store, None, mend=True), space, {})
    lrs = [trial.config.optimizer.lr for trial in sorted(study.trials(), key=lambda t: t.number)]
    while sum(trial.counts for trial in study.trials()) < space.search.num_trials:
        trial = study.ask()
        lrs.append(trial.config.optimizer.lr)
        error = ERRORS[trial.number % 2][trial.number // 2]
        for epoch in (1, 2):
            study.report(trial.number, epoch, {"val_error": error, "train_loss": 1.0})
        study.finish(trial.number, error, {"size_bytes": 100})
    return study.trials()


def test_points_are_the_chosen_with_seeds_of_their_own(chosen):
    space, _, trials = chosen
    again = confirmation_space(space, trials, 2, None)
    assert again.name == "small-confirm"
    assert again.search.num_trials == len(again.points) == 4
    configs = [again.config(point) for point in again.points]
    assert [config.seed for config in configs] == [8, 8, 9, 9]
    for config, trial in zip(configs, [*trials, *trials], strict=True):
        assert config.model_copy(update={"seed": 7}) == trial.config


def test_another_budget_is_another_study(chosen):
    space, _, trials = chosen
    again = confirmation_space(space, trials, 1, 200)
    assert again.name == "small-confirm-200"
    assert {again.config(point).num_epochs for point in again.points} == {200}


def test_the_mean_decides_and_more_seeds_are_added(chosen):
    space, store, trials = chosen
    once = drive(confirmation_space(space, trials, 1, None), store)
    assert [each.trial for each in confirmed(trials, once)] == [0, 1]  # 0.30 against 0.35
    twice = drive(confirmation_space(space, trials, 2, None), store)
    assert [trial.number for trial in twice] == [0, 1, 2, 3]
    first, second = confirmed(trials, twice)
    assert (first.trial, first.errors) == (1, (0.35, 0.36))
    assert first.mean == pytest.approx(0.355)
    assert first.deviation == pytest.approx(statistics.stdev((0.35, 0.36)))
    assert second.trial == 0
    assert best_by_mean(twice).number == 1


def test_nothing_wins_before_something_has_finished():
    assert best_by_mean([]) is None


def test_a_confirmation_is_described_by_the_network_that_it_hands_over(chosen):
    space, store, trials = chosen
    again = confirmation_space(space, trials, 2, None)
    drive(again, store)
    study = Study.load(open_storage(store, None), again.name)
    study.set_attr("confirms", space.name)
    page = gather(study, study.trials(), store)
    assert (best(page.trials).number, page.winner.number) == (0, 1)
    text = description(again.name, page.trials, Choice(page.winner), page.front)
    assert "Best: [trial 1]" in text
    assert any("--trial 1 " in command.text for command in commands(page))


def test_other_trials_are_confirmed_beside_those_before_them(chosen):
    space, store, trials = chosen
    once = confirmation_space(space, trials[:1], 2, None)
    drive(once, store)
    more = confirmation_space(space, trials[1:], 2, None, once.points)
    assert more.search.num_trials == 4
    assert [each.errors for each in confirmed(trials, drive(more, store))] == [
        (0.30, 0.35),
        (0.50, 0.36),
    ]
    both = confirmed(trials[1:], drive(more, store), None, trials)  # those of the command before
    assert [each.trial for each in both] == [0, 1]
    fewer = confirmation_space(space, trials[1:], 3, None, more.points)  # of one of them more
    assert fewer.search.num_trials == 5
    assert confirmation_space(space, trials[1:], 2, None, fewer.points).points == fewer.points


def test_trials_that_differ_in_their_seed_alone_are_confirmed_once(chosen):
    _, _, (first, second) = chosen
    reseeded = replace(first, number=9, config=first.config.model_copy(update={"seed": 8}))
    longer = replace(first, number=10, config=first.config.model_copy(update={"num_epochs": 3}))
    trials = [first, reseeded, second, longer]
    assert distinct(trials, None) == [first, second, longer]
    assert distinct(trials, 50) == [first, second]
    results = confirmed([first, longer], [longer])
    assert [(each.trial, len(each.errors)) for each in results] == [(10, 1), (0, 0)]


def test_each_budget_is_kept_and_told_beside_the_others(chosen, capsys):
    _, store, _ = chosen
    name = "small"
    study = Study.load(open_storage(store, None), name)
    seen = Confirmed(0, 0.2, (0.1, 0.3), 0, 100)
    made = [Confirmation(f"{name}-confirm{end}", epochs, (seen,)) for end, epochs in
            (("", None), ("-200", 200), ("-50", 50))]  # fmt: skip
    for one in reversed(made):
        study.set_attr(one.attribute, one.as_data())
    assert confirmations(name, study.attrs) == made
    print_confirmed(console(), made)
    once, *instead = capsys.readouterr().out.splitlines()
    assert once.endswith("20.00 % over 2 new seeds; see: sqtune show small-confirm")
    assert [line.split("trained for ")[1].split()[0] for line in instead] == ["200", "50"]
    old = {"study": "small-confirm-200", "results": [seen.as_data()]}  # before budgets were kept
    assert confirmations(name, {"confirmed": old}) == [replace(made[1], num_epochs=200)]
    assert confirmations(name, {"confirmed": {**old, "study": "x"}})[0].num_epochs is None


def results(*errors):
    return [Confirmed(number, 0.1, each, 0, 100) for number, each in enumerate(errors)]


@pytest.mark.parametrize(
    ("errors", "near"),
    [
        (((0.02, 0.02, 0.02), (0.02, 0.02, 0.02)), [1]),  # a tie without a spread
        (((0.02, 0.02, 0.02), (0.03, 0.03, 0.03)), []),
        (((0.019, 0.02, 0.021), (0.022, 0.023, 0.024), (0.019, 0.024, 0.029)), [2]),  # the third
        (((0.019, 0.02, 0.021), (0.021, 0.022, 0.023)), [1]),  # over two standard errors
        (((0.01, 0.02), (0.01, 0.02)), []),  # too few seeds to tell
        (((0.01, 0.02, 0.03), (0.02, 0.03)), []),
    ],
)
def test_rivals_are_all_whose_mean_is_within_the_noise(errors, near):
    assert [each.trial for each in rivals(results(*errors))] == near


def test_the_lead_is_told_with_those_of_too_few_seeds():
    low, high = (0.01, 0.011, 0.012), (0.03, 0.031, 0.032)
    assert lead(results(low)) == ""
    assert lead(results(low[:2], high)) == "too few seeds to tell how sure that is"
    assert lead(results(low, high)).startswith("no other")
    assert lead(results(low, low, high[:2])) == (
        "trial 1 is within the noise of it and trial 2 has too few seeds to tell"
    )

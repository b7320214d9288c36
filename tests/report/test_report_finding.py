"""The first sentence: what was found and how sure it is, in every kind of study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report.made_up import CONTENT, report, space, study
from sqtune.report.card import commands, no_importance
from sqtune.report.charts import charts_of
from sqtune.report.facts import gather
from sqtune.report.finding import finding, within_noise
from sqtune.report.page import page
from sqtune.report.trials import trials_table
from sqtune.search.confirmed import Confirmation, Confirmed
from sqtune.store import Store


def test_an_empty_study_says_that_nothing_is_known(tmp_path):
    assert finding(report(tmp_path, [])) == "Nothing is known yet: no trial has begun."


def test_failures_alone_are_told_with_their_most_frequent_reason(tmp_path):
    text = finding(report(tmp_path, ["failed"] * 3))
    assert text.startswith("No network was found: 3 failed.")
    assert text.endswith("(2 of 3): the loss is not finite, trial 0")


def test_refused_trials_alone_name_the_nearest(tmp_path):
    of = space(target={"max_flash": 8 * 1024})
    text = finding(report(tmp_path, ["refused"] * 3, of=of))
    assert "none of 3 proposals fits the target" in text
    assert "The nearest is trial" in text


def test_what_still_runs_is_said(tmp_path):
    assert finding(report(tmp_path, ["running"])).startswith("No trial has finished yet: 1 ")
    assert finding(report(tmp_path, ["finished", "running"])).startswith("So far the only")


def test_one_trial_is_the_only_network_and_one_seed(tmp_path):
    text = finding(report(tmp_path, ["finished"]))
    assert text.startswith("The only finished network is trial 0 (")
    assert "one seed" in text
    assert "of 449 images" in text


def test_a_winner_within_the_noise_of_others_is_not_called_settled(tmp_path):
    found = report(tmp_path, ["finished"] * 12)
    near = within_noise(found.winner, found.ranked)
    assert near
    assert found.winner not in near
    assert f"{len(near)} other" in finding(found)
    assert "not settled" in finding(found)
    far = [trial for trial in found.ranked if trial not in near]
    assert "no other lies within the noise" in finding(replace(found, ranked=tuple(far)))


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        (((0.10, 0.11, 0.12), (0.30, 0.31, 0.32)), "no other that was confirmed is within"),
        (((0.10, 0.14, 0.12), (0.12, 0.13, 0.14)), "trial 2 is within the noise of it"),
        (((0.10,), (0.2,)), "10.00 %; too few seeds to tell how sure that is"),
        (((0.10, 0.11, 0.12),), "over 3 new seeds its mean validation error is 11.00 ± 0.58 %."),
    ],
)
def test_a_confirmed_winner_is_judged_by_its_mean(tmp_path, errors, words):
    confirmed = [Confirmed(number, 0.1, each, 0, 9000).as_data() for number, each in
                 zip((1, 2), errors, strict=False)]  # fmt: skip
    attrs = {"confirmed": {"study": "other", "results": confirmed}}
    found = report(tmp_path, ["finished"] * 4, attrs=attrs)
    assert found.winner.number == 1
    assert words in finding(found)
    count = len(errors)
    begins = f"Of the {count} networks that were" if count > 1 else "The only network that was"
    assert finding(found).startswith(f"{begins} confirmed")


def test_another_budget_is_not_told_as_the_searchs_own(tmp_path):
    again = Confirmation("x", 200, (Confirmed(1, 0.1, (0.01, 0.02, 0.03), 0, 9000),))
    found = report(tmp_path, ["finished"] * 4, attrs={again.attribute: again.as_data()})
    assert found.winner == found.ranked[0]
    assert "confirmed, trained for 200 epochs instead of 8, is trial 1: over 3" in finding(found)
    charts = {chart.key: chart.parts[0]["datasets"] for chart in charts_of(found).all()}
    assert charts["front"]["confirmed"] == charts["confirmation"]["first"] == []
    own = Confirmation("y", None, (Confirmed(2, 0.1, (0.2, 0.21, 0.22), 0, 9000),))
    same = Confirmation("z", 8, own.results)  # what all were trained for anyway
    for one in (own, same):
        attrs = {each.attribute: each.as_data() for each in (again, one)}
        both = report(tmp_path, ["finished"] * 4, attrs=attrs)
        assert (both.winner.number, both.confirmed_epochs) == (2, None)
        assert "instead" not in finding(both)


def test_the_winner_is_the_best_of_those_that_could_be(tmp_path):
    of = space(space={"quantizer.name": {"choice": ["float", "binary"]}})
    found = report(tmp_path, ["finished"] * 8, of=of)
    quantized = sum(trial.weight_bits == 1 for trial in found.ranked)
    assert 1 < quantized < 8
    assert finding(found).startswith(f"The best of {quantized} finished quantized networks is")
    one = [trial for trial in found.ranked if trial.weight_bits != 1] + [found.winner]
    text = finding(replace(found, ranked=tuple(one)))
    assert text.startswith("The only finished quantized network is")
    assert "no other" not in text


def test_a_best_network_that_is_a_plain_baseline_is_told_with_the_best_that_is_not(tmp_path):
    schedules = [{"name": "stages", "ratios": [1]}, {"name": "linear"}]
    selection = {"choice": ["linear", "softmax"]}
    both = {"schedule": {"choice": schedules}, "selection.function": selection}
    found = report(tmp_path, ["finished"] * 8, of=space(space=both))
    plain = [trial for trial in found.ranked if trial.values["schedule"].startswith("stages")]
    drawn = [trial for trial in found.ranked if trial not in plain]
    text = finding(replace(found, winner=plain[0]))
    told = f"without Stochastic Quantization; the best with it: trial {drawn[0].number}, "
    assert told in text
    assert "without Stochastic" not in finding(replace(found, winner=drawn[0]))
    alone = replace(found, winner=plain[0], ranked=tuple(plain))
    assert finding(alone).endswith(" It was trained without Stochastic Quantization.")
    table = trials_table(found)
    names = [name for name, _ in table.columns]
    assert names.index("size KiB") < names.index("schedule") < names.index("bits")
    cells = {row.number: dict(zip(names, row.cells, strict=True)) for row in table.rows}
    row = cells[plain[0].number]
    assert (row["schedule"].text, row["selection.function"].text) == ("none (all at once)", "-")
    assert cells[drawn[0].number]["selection.function"].text in ("linear", "softmax")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (6, "Importance needs 10 finished trials; there are 6."),
        (12, ""),
    ],
)
def test_why_nothing_is_said_of_importance(tmp_path, count, words):
    found = report(tmp_path, ["finished"] * count + ["failed"] * 9)
    assert no_importance(found) == words
    assert words in page(found)


def test_networks_with_a_lower_error_that_were_not_confirmed_are_told(tmp_path):
    best, *others = report(tmp_path, ["finished"] * 4).ranked
    told = Confirmed(others[0].number, others[0].val_error, (0.1, 0.11, 0.12), 0, 9000)
    attrs = {"confirmed": Confirmation("x", None, (told,)).as_data()}
    found = report(tmp_path, ["finished"] * 4, attrs=attrs)
    assert found.winner.number == told.trial != best.number
    assert "1 network that was not confirmed has a lower error" in finding(found)


def test_equal_errors_are_within_the_noise_where_its_size_is_not_known(tmp_path):
    found = report(tmp_path, ["finished"] * 3)
    trials = [replace(trial, facts={}) for trial in (found.winner, found.winner, found.ranked[2])]
    assert within_noise(trials[0], trials) == [trials[1]]


def test_a_confirmation_without_results_decides_nothing(tmp_path):
    results = [Confirmed(1, 0.1, (), 2, 9000).as_data()]
    attrs = {"confirmed": {"study": "other", "results": results}}
    found = report(tmp_path, ["finished"] * 4, attrs=attrs)
    assert found.winner == found.ranked[0]


def test_a_confirmation_and_a_comparison_under_way_choose_no_winner(tmp_path):
    seeds = {**CONTENT["space"], "seed": {"int": [0, 9]}}
    of = space(space=seeds, search={"sampler": "points"})
    assert finding(report(tmp_path, ["finished"] * 12, of=of)).startswith("The best of 12")
    numbers = {"seed": {"int": [0, 2**31 - 1]}, "num_epochs": {"int": [1, 100_000]}}
    old = study([], of=space(space=numbers, search={"sampler": "points"}))
    assert not gather(old, [], Store.at(tmp_path)).is_search
    found = report(tmp_path, ["finished"] * 12, of=of, attrs={"compares": True})
    assert finding(found) == "This comparison has not come to its end yet: 12 finished."
    charts = charts_of(found)
    assert charts.mattered == charts.slices == ()
    found = report(tmp_path, ["finished"] * 12, of=of, attrs={"confirms": "the study"})
    assert "confirm the study “the study” (12 finished)" in finding(found)
    assert not any("sqtune confirm" in command.text for command in commands(found))

"""The first sentence: what was found and how sure it is, in every kind of study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report.made_up import CONTENT, report, space
from sqtune.report.card import commands
from sqtune.report.charts import charts_of
from sqtune.report.finding import finding, within_noise
from sqtune.search.confirm import Confirmed


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
        (((0.10, 0.11, 0.12), (0.30, 0.31, 0.32)), "no other that was confirmed comes within"),
        (((0.10, 0.14, 0.12), (0.12, 0.13, 0.14)), "trial 2 is within the noise of it"),
        (((0.10,), (0.2,)), "too few to say how sure"),
        (((0.10, 0.11, 0.12),), "over 3 new seeds its mean is 11.00 ± 0.58 %."),
    ],
)
def test_a_confirmed_winner_is_judged_by_its_mean(tmp_path, errors, words):
    confirmed = [Confirmed(number, 0.1, each, 0, 9000).as_data() for number, each in
                 zip((1, 2), errors, strict=False)]  # fmt: skip
    attrs = {"confirmed": {"study": "other", "results": confirmed}}
    found = report(tmp_path, ["finished"] * 4, attrs=attrs)
    assert found.winner.number == 1
    assert words in finding(found)


def test_a_confirmation_without_results_decides_nothing(tmp_path):
    results = [Confirmed(1, 0.1, (), 2, 9000).as_data()]
    attrs = {"confirmed": {"study": "other", "results": results}}
    found = report(tmp_path, ["finished"] * 4, attrs=attrs)
    assert found.winner == found.ranked[0]


def test_a_confirmation_and_a_comparison_under_way_choose_no_winner(tmp_path):
    seeds = {**CONTENT["space"], "seed": {"int": [0, 9]}}
    of = space(space=seeds, search={"sampler": "points"})
    found = report(tmp_path, ["finished"] * 12, of=of)
    assert finding(found) == "This comparison has not come to its end yet: 12 finished."
    charts = charts_of(found)
    assert charts.mattered == charts.slices == ()
    found = report(tmp_path, ["finished"] * 12, of=of, attrs={"confirms": "the study"})
    assert "confirm the study “the study” (12 finished)" in finding(found)
    assert not any("sqtune confirm" in command.text for command in commands(found))

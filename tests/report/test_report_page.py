"""The page: whole, escaped, without anything from elsewhere, small enough; and the table on it."""

from __future__ import annotations

import base64
import json
import re
import shlex
from html.parser import HTMLParser

import pytest

from report.made_up import CONTENT, NAME, report, space, study, write_network
from sqtune.config import load_space
from sqtune.report import facts, render
from sqtune.report.card import commands, failures, files_to_save, stopped_groups
from sqtune.report.charts.mattered import slice_charts
from sqtune.report.facts import gather
from sqtune.report.page import page
from sqtune.report.trials import trials_table
from sqtune.store import Store

MIXED = ["finished"] * 10 + ["stopped"] * 3 + ["failed"] * 3 + ["refused", "running"]
EVIL = '</script><script>alert("1")</script><b>&amp; \u2028'
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Parsed(HTMLParser):
    """A page taken apart: elements must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def with_attribute(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    store = Store.at(tmp_path_factory.mktemp("whole"))
    made = study(MIXED)
    found = gather(made, made.trials(), store)
    write_network(store.network(made.name, found.winner.number))
    return gather(made, made.trials(), store, " --store 'my store'")


@pytest.fixture(scope="module")
def text(whole):
    return page(whole)


@pytest.fixture(scope="module")
def parsed(text):
    return Parsed(text)


def test_the_first_words_are_the_finding(text):
    body = text[text.index("<body>") :]
    words = re.sub(r"<[^>]*>", " ", body).split()
    assert " ".join(words[:8]) == "So far the best of 10 finished networks"


def test_it_loads_nothing(text, parsed):
    for name in ("src", "href", "data", "action", "poster", "srcset", "xlink:href"):
        for value in parsed.with_attribute(name):
            assert value.startswith(("#", "data:application/json;base64,")), value
    assert not {"link", "iframe", "object", "embed", "img", "base"} & {
        tag for tag, _ in parsed.tags
    }
    style = "".join(parsed.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    [policy] = [a["content"] for _, a in parsed.tags if "Security" in (a.get("http-equiv") or "")]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert not re.search(r"""(?:src|href)=["']?https?:|url\(["']?https?:""", text)


def test_every_chart_has_a_caption_or_an_explanation_and_a_text_alternative(parsed):
    charts = [attrs for _, attrs in parsed.tags if "data-chart" in attrs]
    assert {attrs["data-chart"] for attrs in charts} >= {"front", "curves", "layers", "parallel"}
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 30 for attrs in charts)
    captions = sum(tag == "figcaption" for tag, _ in parsed.tags)
    in_grid = sum(attrs["data-chart"].startswith("slice") for attrs in charts)
    assert captions == len(charts) - in_grid
    specs = json.loads("".join(parsed.texts["script"][:1]))
    assert set(specs) == {attrs["data-chart"] for attrs in charts}


def test_charts_are_there_without_a_script(parsed):
    stills = sum(tag == "svg" for tag, _ in parsed.tags)
    assert stills == 1 + len(parsed.with_attribute("data-chart"))  # curves have two parts


def test_ids_are_distinct_and_links_lead_somewhere(parsed):
    ids = parsed.with_attribute("id")
    assert len(ids) == len(set(ids))
    inside = [link for link in parsed.with_attribute("href") if link.startswith("#")]
    assert inside
    assert {link.removeprefix("#") for link in inside} <= set(ids)


def test_names_and_reasons_are_text_and_nothing_else(tmp_path):
    def edit(parts):
        attrs = parts["user_attrs"]
        if "failure" in attrs:
            attrs["failure"] = EVIL

    of = space(name=EVIL)
    found = report(tmp_path, ["finished"] * 3 + ["failed"], of=of, edit=edit)
    text = page(found)
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(|u003escript\\u003ealert\(", "", text)
    parsed = Parsed(text)
    scripts = sum(tag == "script" for tag, _ in parsed.tags)
    assert scripts == 3
    assert parsed.texts["title"][0].startswith(EVIL)


def test_a_name_of_any_script_is_kept(tmp_path):
    of = space(name="сеть 网络 ネット")
    found = report(tmp_path, ["finished"], of=of)
    assert "сеть 网络 ネット" in page(found)
    typed = [shlex.split(command.text) for command in commands(found)]
    assert ["sqtune", "confirm", "сеть 网络 ネット"] in typed
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", file.name) for file in files_to_save(found))


def test_commands_name_the_store_and_the_trial(whole):
    typed = [shlex.split(command.text) for command in commands(whole)]
    number = str(whole.winner.number)
    at = ["--store", "my store"]
    assert ["sqtune", "export", NAME, *at, "--trial", number, "--out", "deployed"] in typed
    assert ["sqtune", "confirm", NAME, *at] in typed


def test_saved_files_are_the_space_and_the_networks_configuration(whole, parsed, tmp_path):
    links = [attrs for tag, attrs in parsed.tags if "download" in attrs]
    spaces = {}
    for attrs in links:
        path = tmp_path / attrs["download"]
        path.write_bytes(base64.b64decode(attrs["href"].partition(",")[2]))
        spaces[path.name] = load_space(path)
    study_space, own = spaces.values()
    assert study_space.hash() == whole.space.hash()
    assert own.config({}) == whole.winner.config
    assert f"--space {list(spaces)[1]} " in next(iter(commands(whole))).text


def test_stops_and_failures_are_told_with_their_trials(whole):
    [stopped] = stopped_groups(whole)
    assert (stopped.reason, stopped.numbers) == ("after epoch 4 of 8", "trials 10, 11, 12")
    most, other = failures(whole)
    assert (most.reason, most.numbers) == ("the loss is not finite, trial 1", "trials 13, 15")
    assert other.numbers == "trial 14"
    assert most.detail.startswith("Traceback")


def test_the_table_has_every_trial_best_first(whole):
    table = trials_table(whole)
    assert [row.number for row in table.rows[:10]] == [trial.number for trial in whole.ranked]
    assert len(table.rows) == len(MIXED)
    names = [name for name, _ in table.columns]
    assert {"error %", "size KiB", "optimizer.lr", "quantizer.name", "note"} <= set(names)
    error = names.index("error %")
    keys = [row.cells[error].key for row in table.rows[:10]]
    assert keys == sorted(keys)
    assert table.rows[-1].cells[error].key is None
    assert [row.best for row in table.rows].index(True) == 0
    assert set(table.groups) == {"on the front", *MIXED}


def test_a_repeated_trial_has_the_results_of_the_one_that_it_repeats(tmp_path):
    found = report(tmp_path, ["finished", "finished", "repeated", "paused", "interrupted"])
    assert found.trials[2].epochs[-1]["val_error"] == found.trials[0].val_error
    assert [trial.number for trial in found.ranked if trial.duplicate_of is not None] == []
    table = trials_table(found)
    assert {"repeated", "paused", "interrupted"} < set(table.groups)
    [row] = [row for row in table.rows if row.number == 2]
    assert row.cells[-1].text == "as trial 0, which it repeats"
    assert Parsed(page(found))


@pytest.mark.parametrize(("count", "words"), [(2, "the lowest error"), (24, "the lowest median")])
def test_a_median_of_few_trials_is_not_told(tmp_path, count, words):
    of = space(space={"quantizer.name": {"choice": ["binary", "ternary"]}, "seed": {"int": [0, 9]}})
    [chart] = [
        chart
        for chart in slice_charts(report(tmp_path, ["finished"] * count, of=of))
        if chart.title == "quantizer.name"
    ]
    assert words in chart.alt


def test_whole_numbers_keep_their_digits_and_unknown_ones_come_last(tmp_path):
    def edit(parts):
        parts["user_attrs"].get("facts", {}).pop("weight_bits")

    rule = [{"match": "head", "quantizer": {"name": "uniform", "bits": 8}}]
    trial = {**CONTENT["trial"], "overrides": rule}
    of = space(trial=trial, space={"seed": {"int": [20261128, 20261129]}})
    found = report(tmp_path, ["finished"], of=of, edit=edit)
    table = trials_table(found)
    cells = dict(zip([name for name, _ in table.columns], table.rows[0].cells, strict=True))
    assert cells["seed"].text == str(found.winner.config.seed)
    assert cells["bits"].text == "?"
    assert '<td class="number" data-key="">?</td>' in page(found)


def test_two_hundred_trials_of_sixty_epochs_stay_under_five_megabytes(tmp_path):
    of = space(trial={"network": {"name": "resnet8"}, "num_epochs": 60})
    text = page(report(tmp_path, ["finished"] * 200, of=of))
    assert len(text.encode()) < 5_000_000


@pytest.mark.parametrize("states", [[], ["failed"] * 3, ["refused"] * 2, ["finished"], ["running"]])
def test_any_study_gives_a_whole_page(tmp_path, states):
    parsed = Parsed(page(report(tmp_path, states)))
    assert any(attrs.get("id") == "finding" for _, attrs in parsed.tags)


def test_a_thousand_trials_give_a_page(tmp_path):
    text = page(report(tmp_path, ["finished", "stopped", "failed", "refused"] * 250))
    assert text.count("<tr data-groups") == 1000
    assert len(text.encode()) < 8_000_000


def test_of_more_trials_than_a_page_takes_the_best_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "MOST_SHOWN", 5)
    found = report(tmp_path, ["failed", "stopped"] + ["finished"] * 8)
    assert found.shown == found.ranked[:5]
    text = page(found)
    assert text.count("<tr data-groups") == 5
    assert "the 5 best of 10 trials" in text
    assert "The best of 8 finished networks" in text


def test_the_script_is_kept_and_made_anew_where_it_cannot_be(tmp_path, monkeypatch):
    script = render.script.__wrapped__
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = script()
    [kept] = (tmp_path / "cache" / "sqtune").iterdir()
    assert kept.read_text(encoding="utf-8") == text
    kept.write_text("kept")
    assert script() == "kept"
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert script() == text
    assert "</script" not in text

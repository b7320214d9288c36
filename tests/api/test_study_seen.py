"""Studies as notebooks see them, made without training anything."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from search.studies import asked, finish, new_store, on_digits, opened, space_of

import sqtune
from sqtune.config.options import SearchOptions
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.quant import Ternary
from sqtune.search import pareto
from sqtune.search.choice import Choice
from sqtune.search.described import description
from sqtune.search.front_chart import MOST_LABELS
from sqtune.search.outcome import Outcome, Places
from sqtune.search.records import TrialRecord
from sqtune.search.study import Study
from sqtune.store import Store

SPACE = """
name: {name!r}
trial: {{network: {{name: resnet8, width: 4}}, num_epochs: 2}}
space:
  optimizer.lr: {{float: [0.02, 0.3], log: true}}
  quantizer.name: {{choice: [binary, uniform]}}
  quantizer.bits: {{int: [2, 4], when: {{quantizer.name: uniform}}}}
search: {{num_trials: 1000, sampler: random}}
"""
ODD = "Zif fern <b>数字</b> & ö"


@pytest.fixture
def driven(tmp_path):
    """Return a store and a study that is driven there."""

    def make(name: str = "small") -> tuple[Store, Study]:
        store = new_store(tmp_path / "store")
        return store, opened(
            store, space_of(tmp_path, SPACE.format(name=name)), footprint=on_digits
        )

    return make


def html(study: sqtune.Study) -> str:
    """Return what a notebook shows; it has to be well-formed."""
    shown = study._repr_html_()
    ET.fromstring(f"<body>{shown}</body>")
    return shown


def check_front(study: sqtune.Study) -> None:
    """Draw the front: a line down from the smallest network, the first of its trials numbered."""
    figure = study.plot_front()
    assert figure._repr_png_().startswith(b"\x89PNG")
    [axes] = figure.axes
    lines = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    best = pareto.front(study._trials)
    drawn = [(x, y) for line in lines for x, y in zip(*line.get_data(), strict=True)]
    assert drawn == [(t.size_bytes / 1024, 100 * t.val_error) for t in reversed(best)]
    assert drawn == sorted(drawn, key=lambda place: (place[0], -place[1]))
    numbered = {int(text.get_text()) for text in axes.texts if text.get_text().isdecimal()}
    smallest_first = study.front.sort_values("size_bytes").index
    assert numbered == set(smallest_first[:MOST_LABELS])


def test_what_is_not_there_is_said(tmp_path, driven):
    with pytest.raises(sqtune.SqtuneError, match="there is no study in"):
        sqtune.open_study(store=tmp_path / "nowhere")
    store, _ = driven()
    with pytest.raises(sqtune.SqtuneError, match=r'there is no study "smal".*"small"'):
        sqtune.open_study("smal", store=store.root)


def test_a_study_without_trials(driven):
    store, _ = driven(ODD)
    study = sqtune.open_study(store=store.root)
    assert (study.name, study.ending) == (ODD, None)
    assert study.trials.empty
    assert study.front.empty
    assert "val_error" in study.trials.columns
    assert repr(study) == f'<Study "{ODD}": no trials yet>'
    assert "Zif fern &lt;b&gt;数字&lt;/b&gt; &amp; ö" in html(study)
    check_front(study)
    with pytest.raises(sqtune.SqtuneError, match=r"no trial of .* has finished yet"):
        study.best()


def test_a_study_of_failures_shows_the_first(driven):
    store, driver = driven()
    for _ in range(2):
        driver.fail(asked(driver).number, "Traceback\nthe loss <became> nan in epoch 1.")
    study = sqtune.open_study(store=store.root)
    assert list(study.trials.state) == ["failed", "failed"]
    assert study.trials.failure.str.contains("became").all()
    assert study.trials.val_error.isna().all()
    assert "2 failed" in html(study)
    assert "the loss &lt;became&gt; nan in epoch 1." in html(study)
    check_front(study)
    with pytest.raises(sqtune.SqtuneError, match=r"trial 1 .* is failed"):
        study.trial(1)
    with pytest.raises(sqtune.SqtuneError, match="there is no trial 7"):
        study.trial(7)


def test_one_trial_is_its_own_front(driven):
    store, driver = driven()
    finish(driver, asked(driver), 0.1)
    study = sqtune.open_study(store=store.root)
    best = study.best()
    assert best.val_error == 0.1
    assert best.val_error_standard_error == pytest.approx(math.sqrt(0.09 / 449))
    assert (best.number, best.test_error) == (0, None)
    assert best.config["network"] == {"name": "resnet8", "width": 4}
    assert list(study.front.index) == [0]
    assert study.best(knee=True).number == 0
    assert list(best.epochs.index) == [1, 2]
    assert list(best.epochs.val_error) == [0.1, 0.1]
    assert best.network == store.network("small", 0)
    assert repr(best).startswith("<trial   0  error 10.00 ± 1.42 %")
    check_front(study)


def test_the_table_has_every_figure(driven):
    store, driver = driven()
    errors = iter((0.3, 0.2, 0.4, 0.1, 0.25))
    for error in errors:
        finish(driver, asked(driver), error)
    running = asked(driver)
    driver.report(running.number, 1, {"train_loss": 2.0, "val_error": 0.5})
    study = sqtune.open_study(store=store.root)
    table = study.trials
    assert table.index.name == "number"
    assert list(table.index) == list(range(6))
    assert list(table.state) == ["finished"] * 5 + ["interrupted"]
    assert table.val_error.dtype == np.float64
    assert list(table.val_error[:5]) == [0.3, 0.2, 0.4, 0.1, 0.25]
    assert pd.isna(table.val_error[5])
    assert table.size_bytes.dtype == "Int64"
    assert list(table.epochs) == [2] * 5 + [1]
    assert table["optimizer.lr"].between(0.02, 0.3).all()
    assert set(table["quantizer.name"]) <= {"binary", "uniform"}
    bits = table["quantizer.bits"]
    assert (bits.isna() == (table["quantizer.name"] == "binary")).all()
    assert list(study.front.index) == list(table[table.on_front].sort_values("val_error").index)
    top = study.best()
    assert top.number == table.val_error.idxmin()
    smallest = study.best(max_error="50%")
    assert smallest.size_bytes == table.size_bytes.min()
    assert study.best(smallest.size_bytes).size_bytes == smallest.size_bytes
    table["val_error"] = 0  # a table is the caller's own
    assert study.trials.val_error[0] == 0.3


def test_what_went_wrong_beside_a_search_is_warned_of_at_the_callers_line(tmp_path, monkeypatch):
    def ended(space: SearchSpace, *_: object, **__: object) -> Outcome:
        return Outcome("small", space, "target error", [], None, None, "away", "full", None)

    monkeypatch.setattr("sqtune.search.run.run_search", ended)
    space_of(tmp_path, SPACE.format(name="small"))
    with pytest.warns(UserWarning, match="stored|MLflow") as warned:
        sqtune.search(tmp_path / "space.yaml", store=tmp_path / "store", quiet=True)
    assert [str(each.message) for each in warned] == [
        "not every stage was stored: full",
        "MLflow does not have everything: away",
    ]
    assert {each.filename for each in warned} == {__file__}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_size": 10}, r"^max_size 10 bytes: .* the smallest, trial 0, takes .* KiB"),
        ({"max_size": "20 furlongs"}, "max_size: '20 furlongs' is not a size"),
        ({"max_error": 3}, "max_error: 3 is not an error: write 1% or 0.01"),
        ({"max_error": "1%"}, r"^max_error 1.00 %: .* the best, trial 0, has 10.00 %"),
        ({"max_error": 0.2, "knee": True}, "leave out the other limits"),
    ],
)
def test_limits_that_nothing_meets(driven, limits, message):
    store, driver = driven()
    finish(driver, asked(driver), 0.1)
    with pytest.raises(sqtune.SqtuneError, match=message):
        sqtune.open_study(store=store.root).best(**limits)


def test_a_thousand_trials_with_forty_columns(tmp_path):
    draw = np.random.default_rng(0)
    config = TrialConfig(quantizer=Ternary())
    trials = [
        TrialRecord(
            number=number,
            state="finished",
            values={f"regularization.part_{index}": draw.random() for index in range(40)},
            config=config,
            epochs=tuple({"val_error": error, "time": 0.0} for error in draw.random(3)),
            facts={"size_bytes": int(draw.integers(10_000, 900_000)), "num_validation": 449},
            failure=None,
            run_id=None,
            test_error=None,
        )
        for number in range(1000)
    ]
    space = SearchSpace(name="many")
    study = sqtune.Study(space, trials, Places(Store.at(tmp_path)))
    assert study.trials.shape == (1000, 57)
    shown = html(study)
    assert len(shown) < 20_000
    assert shown.count("<tr") <= 12
    assert "..." in shown
    assert repr(study).count("\n") == 0
    check_front(study)


def test_a_front_of_other_objectives_is_marked_and_not_joined(tmp_path):
    sizes, operations = (9000, 7000, 5000, 3000), (4, 3, 9, 2)
    trials = [
        TrialRecord(
            number=number,
            state="finished",
            values={},
            config=TrialConfig(quantizer=Ternary()),
            epochs=({"val_error": 0.1 + 0.1 * number, "time": 0.0},),
            facts={"size_bytes": size, "bit_operations": cost, "num_validation": 449},
            failure=None,
            run_id=None,
            test_error=None,
        )
        for number, (size, cost) in enumerate(zip(sizes, operations, strict=True))
    ]
    search = SearchOptions(num_trials=4, objectives=("val_error", "bit_operations"))
    space = SearchSpace(name="other", search=search)
    study = sqtune.Study(space, trials, Places(Store.at(tmp_path)))
    assert list(study.front.index) == [0, 1, 3]
    check_front(study)
    words = description("other", trials, Choice(trials[0]), study._front, search.objectives)
    assert "The front of val_error and bit_operations:" in words
    assert "bits | size KiB | bit ops | quantizer" in words.replace("&nbsp;", "")
    rows = [line for line in words.splitlines() if line.startswith("|") and "---" not in line]
    cells = [cell for row in rows for cell in row.strip("| ").split(" | ")]
    assert all(cell.startswith("&nbsp;") and cell.endswith("&nbsp;") for cell in cells)
    assert not [cell for cell in cells if "KiB" in cell][1:]  # the unit stands in the header

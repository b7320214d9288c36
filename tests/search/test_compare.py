"""Comparing: what trainings say of methods, in numbers, words and pictures; the command itself."""

from __future__ import annotations

import io
import json
import statistics
import xml.etree.ElementTree as ET
from contextlib import closing
from sqlite3 import connect

import pytest
from rich.console import Console

from search.conftest import run
from search.studies import asked, finish, new_store, opened, space_of
from sqtune.commands.compare import _print
from sqtune.config.compared import comparison_space
from sqtune.search.compare import Row, rows
from sqtune.search.compare_chart import chart
from sqtune.search.compare_table import body, failures, header, legend, markdown, verdicts
from sqtune.search.look import load_study
from sqtune.search.tables import as_data

SPACE = """
name: two methods
trial: {network: {name: resnet8, width: 4}, num_epochs: 1, batch_size: 64}
compare:
  budgets: [paper, 1]
  methods:
    - {name: BWN, published: 10.67%, values: {schedule: {name: stages, ratios: [1]}}}
    - {name: SQ-BWN, stages: 2, against: BWN, values: {schedule: {name: average, num_stages: 2}}}
"""
# test errors by (is it SQ-BWN, epochs), by seed
ERRORS = {
    (False, 1): (0.30, 0.32, 0.31),
    (True, 2): (0.20, 0.21, 0.22),
    (True, 1): (0.33, 0.30, 0.32),
}


@pytest.fixture
def compared(tmp_path):
    """A comparison of three seeds whose trainings are made up; but for its last training."""
    space = space_of(tmp_path, SPACE)
    study = opened(new_store(tmp_path / "store"), comparison_space(space, 3))
    for _ in range(8):
        trial = asked(study)
        config = trial.config
        finish(study, trial, 0.4, config.num_epochs)
        error = ERRORS[config.schedule.name == "average", config.num_epochs][config.seed]
        study.set_test_error(trial.number, error, 449)
    return space, study.trials()


def test_cells_are_means_over_the_seeds(compared):
    bwn, sq = rows(compared[0], 3, compared[1])
    assert bwn.cells["paper"] == bwn.cells[1]  # the same trainings
    assert sq.cells["paper"].num_epochs == 2
    assert sq.cells["paper"].mean == pytest.approx(0.21)
    assert sq.cells["paper"].deviation == pytest.approx(statistics.stdev((0.20, 0.21, 0.22)))
    assert sq.cells[1].test_errors == {0: 0.33, 1: 0.30}  # the third has not been trained
    assert sq.cells["paper"].val_errors == {0: 0.4, 1: 0.4, 2: 0.4}


def test_gains_are_paired_by_seed(compared):
    bwn, sq = rows(compared[0], 3, compared[1])
    assert bwn.gains == {"paper": None, 1: None}
    paper, equal = sq.gains["paper"], sq.gains[1]
    differences = (0.10, 0.11, 0.09)
    assert paper.mean == pytest.approx(0.10)
    assert paper.standard_error == pytest.approx(statistics.stdev(differences) / 3**0.5)
    assert (equal.num_seeds, equal.mean) == (2, pytest.approx(-0.005))


def test_the_table_says_what_was_measured_and_what_is_missing(compared):
    found = rows(compared[0], 3, compared[1])
    assert header(found, 1) == [
        "method",
        "bits",
        "the paper's budget",
        "1 epoch each",
        "published",
    ]
    assert body(found, 3) == [
        ["BWN", "1", "31.00 ± 1.00 (1 epoch)", "31.00 ± 1.00", "10.67"],
        ["SQ-BWN", "1", "21.00 ± 1.00 (2 epochs)", "31.50 ± 2.12 * [2 of 3]", "-"],
    ]
    assert list(verdicts(found, 1)) == [
        "SQ-BWN against BWN, the paper's budget: +10.00 points ± 0.58, ahead",
        "SQ-BWN against BWN, 1 epoch each: -0.50 points ± 2.50, too few seeds to tell",
    ]
    assert legend(found, 3) == [
        "Test error in %, mean ± standard deviation over 3 seeds.",
        "* Fewer epochs than stages: those shorter than an epoch were passed over.",
    ]
    text = markdown("two | methods", found, 1, 3, {"commit": "abc"})
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 4
    assert "- commit: abc" in text


@pytest.mark.parametrize("width", [120, 60, 46])
def test_a_narrow_terminal_has_methods_one_below_another(compared, width, tmp_path):
    space, trials = compared
    found = rows(space, 3, trials)
    out = Console(width=width, record=True, file=io.StringIO())
    _print(out, space, found, 3, tmp_path)
    lines = out.export_text().splitlines()
    table = lines[: next(at for at, line in enumerate(lines) if line.startswith("lead"))]
    figures = [cell for row in body(found, 3) for cell in row[1:] if cell != "-"]
    for figure in figures:  # none is cut or wrapped
        assert any(figure in line for line in table), figure
    assert (table[0].strip() == found[0].method.name) is (width < 80)
    if width < 80:
        assert all(len(line) <= width for line in table if line.startswith("  "))


def test_what_failed_is_told_once_with_its_reason(tmp_path):
    space = space_of(tmp_path, SPACE)
    study = opened(new_store(tmp_path / "store"), comparison_space(space, 1))
    for _ in range(3):
        trial = asked(study)
        if trial.config.schedule.name == "stages":  # BWN, whose two budgets are the same training
            study.fail(trial.number, "Traceback\nthe loss became nan in epoch 1")
        else:
            finish(study, trial, 0.4, trial.config.num_epochs)
            study.set_test_error(trial.number, 0.25, 449)
    found = rows(space, 1, study.trials())
    at_papers = [row[2] for row in body(found, 1)]
    assert at_papers == ["- (1 epoch) [0 of 1] [1 failed]", "25.00 (2 epochs)"]
    line = "BWN, the paper's budget, seed 0: the loss became nan in epoch 1"
    assert list(failures(found, 1)) == [line]
    assert f"- {line}" in markdown("two methods", found, 1, 1, {}).splitlines()
    assert [Row.from_data(json.loads(json.dumps(row.as_data()))) for row in found] == found
    out = Console(width=120, record=True, file=io.StringIO())
    _print(out, space, found, 1, tmp_path)
    assert f"failed    {line}" in out.export_text().splitlines()


def test_top_5_errors_stand_behind_a_stroke(tmp_path):
    text = SPACE.replace("published: 10.67%", "published: 51.22%, published_top5: 27.18%")
    space = space_of(tmp_path, text)
    study = opened(new_store(tmp_path / "store"), comparison_space(space, 2))
    for number in range(6):
        trial = asked(study)
        finish(study, trial, 0.4, trial.config.num_epochs)
        study.set_test_error(trial.number, 0.5, 449, 0.2 if number % 2 else 0.3)
    found = rows(space, 2, study.trials())
    cell = "50.00 ± 0.00 / 25.00 ± 7.07"
    assert [row[3:] for row in body(found, 2)] == [[cell, "51.22 / 27.18"], [f"{cell} *", "-"]]
    assert legend(found, 2)[0].startswith("Test error in %, top-1 / top-5, mean ±")
    again = [Row.from_data(json.loads(json.dumps(row.as_data()))) for row in found]
    assert again == found
    before = json.loads(json.dumps(found[0].as_data()))
    for known in before["budgets"].values():  # as a file of before top-5 errors has it
        del known["top5_errors"]
    assert Row.from_data(before).cells[1].top5_errors == {}
    assert as_data(study.trials()[0])["test_top5_error"] == 0.3


def test_nothing_trained_is_a_table_of_dashes(compared):
    found = rows(compared[0], 2, [])
    assert body(found, 2)[0][2:] == ["- (1 epoch) [0 of 2]", "- [0 of 2]", "10.67"]
    assert next(verdicts(found, 1)) == "SQ-BWN against BWN, the paper's budget: no result"
    assert chart("nothing", found, 1)


def test_the_chart_is_a_picture_that_is_the_same_again(compared):
    found = rows(compared[0], 3, compared[1])
    svg = chart("two methods", found, 1)
    assert svg == chart("two methods", found, 1)
    texts = {"".join(each.itertext()) for each in ET.fromstring(svg).iter() if "text" in each.tag}
    assert {"two methods", "SQ-BWN", "published", "the paper's budget"} <= texts
    assert chart("two methods", found, 1, "png").startswith(b"\x89PNG")


def test_the_command_trains_goes_on_and_writes_table_and_chart(tmp_path):
    path, store = tmp_path / "two.yaml", tmp_path / "store"
    path.write_text(SPACE)
    refused = run("search", "--space", path, "--store", store)
    assert refused.returncode == 2
    assert f"sqtune compare --space {path}" in refused.stderr
    arguments = ("compare", "--space", path, "--store", store)
    first = run(*arguments, "--seeds", 1, "--json")
    assert first.returncode == 0, first.stderr
    again = run(*arguments, "--seeds", 2, "--out", tmp_path / "table")
    assert again.returncode == 0, again.stderr
    assert 'continuing "two methods": 3 trials have ended' in again.stdout
    assert "SQ-BWN against BWN, 1 epoch each" in again.stdout
    out = tmp_path / "table"
    names = {"compare.md", "compare.json", "compare.svg", "compare.png"}
    assert {file.name for file in out.iterdir()} == names
    data = json.loads((out / "compare.json").read_text())
    before = json.loads(first.stdout)["methods"][1]["budgets"]["paper"]["test_errors"]
    errors = data["methods"][1]["budgets"]["paper"]["test_errors"]
    assert list(errors) == ["0", "1"]
    assert errors["0"] == before["0"]  # what was measured stays
    logged = [file.name for file in (store / "mlartifacts").rglob("compare.*")]
    assert set(logged) == names - {"compare.png"}
    assert load_study(str(store), None, None)[0].attrs["compares"]
    with closing(connect(store / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (7,)
    taken = run(*arguments, "--out", out)
    assert taken.returncode == 2
    assert "not an empty folder" in taken.stderr

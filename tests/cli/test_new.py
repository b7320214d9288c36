"""`sqtune new`: a space file to begin with, wherever sqtune is installed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import next_steps
from hatchling import build

import sqtune
from sqtune import shipped
from sqtune.cli import main
from sqtune.commands import doctor
from sqtune.config import load_space

ROOT = Path(__file__).parents[2]


def typed(*words: str) -> str:
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    return answer.output


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", shipped.spaces())
def test_what_is_written_is_the_space_under_a_name_of_its_own(elsewhere, name):
    said = typed("new", "my space.yaml", "--from", name)
    assert next_steps(said) == [["plan", "--space", "my space.yaml"]]
    text = (elsewhere / "my space.yaml").read_text()
    assert text.startswith("# ")
    assert "$schema" not in text
    assert f"{name}.yaml" not in text
    assert "--space 'my space.yaml'" in text
    if not name.startswith("paper/imagenet"):  # those name a folder that is not here
        assert load_space(Path("my space.yaml")).name == "my space"


def test_a_file_that_is_there_is_left_alone(elsewhere):
    (elsewhere / "mine.yaml").write_text("mine")
    for file, said in (("mine.yaml", "exists already"), ("no/where.yaml", "cannot be written")):
        answer = CliRunner().invoke(main, ["new", file])
        assert (answer.exit_code, said in answer.stderr) == (2, True), answer.output
    assert (elsewhere / "mine.yaml").read_text() == "mine"


def test_the_names_are_listed_completed_and_guessed(elsewhere):
    listed = json.loads(typed("new", "--list", "--json"))["spaces"]
    assert list(listed)[-1].startswith("paper/")
    assert listed["schedules_digits"] == "Which ratio schedule?"
    assert all(f"{name} " in typed("new", "--list") for name in listed)
    answer = CliRunner().invoke(main, ["new", "a.yaml", "--from", "resnett"])
    assert 'Did you mean "resnet"?' in answer.stderr
    assert "sqtune new --list" in CliRunner().invoke(main, ["new"]).stderr
    assert list(elsewhere.iterdir()) == []


def test_an_installed_package_has_the_files_within_it(elsewhere, monkeypatch):
    before = shipped.spaces()
    monkeypatch.chdir(ROOT)
    wheel = elsewhere / build.build_wheel(str(elsewhere))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(elsewhere / "installed")
    monkeypatch.setattr(shipped, "__file__", str(elsewhere / "installed/sqtune/shipped.py"))
    assert list(shipped.spaces()) == list(before)
    assert shipped.spaces()["resnet"].is_relative_to(elsewhere)
    assert Path(sqtune.__file__).parents[1] in before["resnet"].parents


def test_what_is_proposed_where_there_is_no_checkout_can_be_typed(monkeypatch):
    monkeypatch.setattr(doctor, "_checks", lambda *_, **__: [])
    first, plan, search = next_steps(typed("doctor"))
    typed(*first)
    assert [plan[0], search[0]] == ["plan", "search"]
    assert load_space(Path(plan[2])).space
    answer = CliRunner().invoke(main, ["show"])
    assert shipped.BEGIN in answer.stderr

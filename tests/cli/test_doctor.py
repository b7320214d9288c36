"""`sqtune doctor` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import pytest
from click.testing import CliRunner
from ray_cluster import free_port

from sqtune.cli import main
from sqtune.commands import doctor
from sqtune.doctor import Check, Finding, places


def test_a_whole_look_around_as_json(tmp_path):
    command = [sys.executable, "-m", "sqtune", "doctor", "--ray", "--json"]
    command += ["--store", str(tmp_path / "store")]
    url = f"sqlite:///{tmp_path}/studies.db"
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "SQTUNE_STUDY_STORAGE": url},
    )
    content = json.loads(answer.stdout)
    found = {each["subject"]: each for each in content["findings"]}
    assert content["search_would_run"] is (answer.returncode == 0)
    problems = [each for each in found.values() if each["state"] == "problem"]
    assert problems == []
    assert {"Python", "packages", "torch", "CPUs", "memory", "store", "ports"} <= found.keys()
    assert "starts here, runs a task and stops" in found["Ray"]["text"]
    assert f"{url} (from SQTUNE_STUDY_STORAGE)" in str(content)
    assert "a file that the first search makes" in found["study storage"]["text"]
    assert answer.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def found(monkeypatch) -> list[Finding]:
    """Return what the checks find, to be filled."""
    given: list[Finding] = []
    monkeypatch.setattr(doctor, "_checks", lambda *_, **__: [Check("all", lambda: given)])
    return given


def test_what_would_not_run_ends_with_exit_code_1_and_says_what_to_do(found):
    found += [Finding("CPUs", "ok", "2"), Finding("torch", "problem", "is broken", "Mend it.")]
    answer = CliRunner().invoke(main, ["doctor"])
    assert answer.exit_code == 1
    assert "problem  torch          is broken\n" in answer.stdout
    assert "→ Mend it.\n" in answer.stdout
    assert "next" not in answer.stdout
    found.pop()
    answer = CliRunner().invoke(main, ["doctor", "--store", "here"])
    assert answer.exit_code == 0
    assert "sqtune search --space search_spaces/resnet.yaml --store here" in answer.stdout


def test_this_machine_in_place_of_a_cluster_is_passed_on(found, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    answer = CliRunner().invoke(main, ["doctor", "--address", "local"])
    assert answer.exit_code == 0, answer.output
    assert "sqtune search --space search_spaces/resnet.yaml --address local" in answer.stdout


def test_a_setting_of_a_file_names_the_file(monkeypatch, tmp_path):
    def say_where(*_: object, **__: object) -> list[Check]:
        return [Check("settings", partial(places.look_at_settings, doctor._origins()))]

    monkeypatch.setattr(doctor, "_checks", say_where)
    for name in ("SQTUNE_STORE", "SQTUNE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".config" / "sqtune" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'store = "{tmp_path}/shared"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = ("doctor", "--json", "--tracking-uri", "http://host")
    usual = CliRunner().invoke(main, shown).stdout
    assert f"store: {tmp_path}/shared (from ~/.config/sqtune/config.toml)" in usual
    assert "tracking uri: http://host (as typed)" in usual
    monkeypatch.setenv("SQTUNE_CONFIG", str(file))
    named = CliRunner().invoke(main, shown).stdout
    assert f"store: {tmp_path}/shared (from {file} (SQTUNE_CONFIG))" in named


def test_no_line_is_wider_than_a_narrow_terminal(found, monkeypatch):
    found.append(Finding("packages", "note", "words " * 30 + "x" * 90, "Do something " * 9))
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sqtune.output.PLAIN_WIDTH", 40)
    lines = CliRunner().invoke(main, ["doctor"]).stdout.splitlines()
    assert max(len(line) for line in lines if "sqtune" not in line) <= 40


def test_a_cluster_that_does_not_answer_is_a_problem():
    from sqtune.doctor import examine, ray

    address = f"127.0.0.1:{free_port()}"
    [found] = examine([Check("Ray cluster", lambda: ray.look_at_cluster(address))])
    assert found.state == "problem"
    assert "Is the head running" in found.text

"""`sqtune store`: what it says of a store, and where its options may stand."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sqtune.cli import main
from sqtune.commands import stages
from sqtune.train.stage_store import StageStore


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    stored = StageStore(tmp_path / "store" / "stages", 10**6)
    for key in ("a", "b", "c"):
        stored.put(key, bytes(1000))
    return tmp_path / "store"


def test_a_store_that_is_not_there(tmp_path):
    answer = invoke("store", "--store", tmp_path / "none")
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: there is no store in")
    assert "--store" in answer.stderr


def test_what_it_holds_and_near_its_limit_how_room_is_made(folder, monkeypatch):
    answer = invoke("store", "--store", folder)
    assert answer.exit_code == 0
    assert "in 3 checkpoints, the oldest used within the last hour\n" in answer.stdout
    assert "prune" not in answer.stdout
    monkeypatch.setattr(stages, "NEAR", 1e-9)
    answer = invoke("store", "--store", folder)
    assert f"next      sqtune store --store {folder} prune --max-size" in answer.stdout
    invoke("store", "prune", "--store", folder, "--max-size", "1B")
    assert "in 0 checkpoints\n" in invoke("store", "--store", folder).stdout


@pytest.mark.parametrize("before", [True, False])
def test_options_stand_before_or_behind_the_word_prune(folder, before):
    given = ("--store", folder, "--json")
    limit = ("--max-size", "2500B")
    command = (*given, "prune", *limit) if before else ("prune", *limit, *given)
    answer = invoke("store", *command)
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["removed"] == 1


def test_stages_elsewhere(folder, tmp_path):
    answer = invoke("store", "prune", "--max-size", "1B", "--stages", folder / "stages")
    assert answer.stdout.startswith("removed 3 checkpoints")

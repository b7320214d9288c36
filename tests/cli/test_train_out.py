"""`train --out` saves a network that the next command starts from, and overwrites nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import next_steps

from sqtune.cli import main
from sqtune.train.checkpoint import load_network

SPACE = Path(__file__).parents[2] / "search_spaces" / "resnet.yaml"
QUICK = ("--set", "trial.num_epochs=2", "--set", "trial.network.width=2")


def invoke(*arguments: object):
    command = ["train", "--space", SPACE, *QUICK, *arguments]
    return CliRunner().invoke(main, [str(argument) for argument in command])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_float_network_is_saved_and_the_start_of_the_next_command(folder):
    saved = invoke("--set", "trial.quantizer.name=float", "--out", "float-net")
    assert saved.exit_code == 0, saved.output
    assert f"network   {folder / 'float-net'}\n" in saved.output
    search, export = next_steps(saved.output)
    assert search[-2:] == ["--set", "trial.start.weights=float-net"]
    assert export[:3] == ["export", "--network", "float-net"]
    assert load_network(folder / "float-net").config.quantizer.name == "float"
    first_losses = []
    for start in ((), ("trial.start.weights=float-net",), ("trial.start={weights: float-net}",)):
        answer = invoke(*(part for name in start for part in ("--set", name)), "--json")
        assert answer.exit_code == 0, answer.output
        content = json.loads(answer.stdout)
        assert content["network"] is None
        first_losses.append(content["epochs"][0]["train_loss"])
    assert first_losses[1] == first_losses[2] != first_losses[0]


def test_json_names_the_folder(folder):
    content = json.loads(invoke("--out", "new/net", "--json").stdout)
    assert content["network"] == str(folder / "new" / "net")
    assert load_network(folder / "new" / "net").about.result["epoch"] == 2


def test_quiet_is_the_last_epoch_and_the_folder(folder):
    lines = invoke("--out", "net", "--quiet").output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["epoch", "network", "next"]
    assert lines[0].startswith("epoch   2/2  ratio 1.000  ")
    assert invoke("--quiet", "--json").stderr == ""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_overwritten(folder, kind):
    mine = folder / "net" / "mine.txt" if kind == "folder" else folder / "net"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    answer = invoke("--out", "net")
    assert answer.exit_code == 2
    assert "--out net: exists and is not an empty folder" in answer.stderr
    assert "epoch" not in answer.output
    assert mine.read_text() == "mine"


def test_a_link_is_refused_before_it_trains(folder):
    (folder / "elsewhere").mkdir()
    for name, target in (("net", "elsewhere"), ("dangling", "nowhere")):
        (folder / name).symlink_to(target)
        answer = invoke("--out", name)
        assert answer.exit_code == 2
        assert f"--out {name}: is a link" in answer.stderr
        assert "epoch" not in answer.output


def test_an_empty_folder_is_taken(folder):
    (folder / "net").mkdir()
    assert invoke("--out", "net").exit_code == 0
    assert load_network(folder / "net").config.num_epochs == 2


def test_weights_that_do_not_fit_are_one_message(folder):
    assert invoke("--out", "net").exit_code == 0
    answer = invoke("--set", "trial.network.width=3", "--set", "trial.start.weights=net")
    assert answer.exit_code == 2
    assert "does not fit the network" in answer.stderr
    assert "Traceback" not in answer.output

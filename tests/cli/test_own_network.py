"""A user's own network and data, in the working directory: search, export, verify, load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import sqtune
from sqtune.cli import main
from sqtune.errors import ConfigError
from sqtune.factories import source_sha256

ROOT = Path(__file__).parents[2]
NETWORKS = Path("sqtune-store", "networks", "own")
NETS = """
from torch import nn

class Plain(nn.Module):
    def __init__(self, in_channels, num_classes, widths):
        super().__init__()
        first, second = widths
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first),
            nn.ReLU6(), nn.MaxPool2d(2),
            nn.Conv2d(first, first, 3, padding=1, groups=first), nn.BatchNorm2d(first), nn.ReLU(),
            nn.Conv2d(first, second, 1),
        )
        self.head = nn.Linear(second, num_classes)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))
"""
IMAGES = """
import numpy as np
from sklearn.datasets import load_digits

def halves(pixels):
    digits = load_digits()
    images = np.rint(digits.images * 15).astype(np.uint8)[:, :pixels, :]
    parts = {"train": slice(900), "test": slice(900, None)}
    return {name: (images[part], digits.target[part]) for name, part in parts.items()}
"""
SPACE = """
trial:
  data: {factory: "owner.images:halves", args: {pixels: 6}, validation: 0.25}
  network: {factory: "owner.cnn:Plain", args: {widths: [6, 8]}}
  keep_float: [head]
  quantizer: {name: ternary}
  batch_size: 64
  num_epochs: 2
space:
  network.args.widths: {choice: [[6, 8], [8, 12]]}
search: {sampler: grid, num_trials: 2, max_concurrent: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a working directory with the user's package, a space and a study of two trials."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "owner").mkdir()
    (folder / "owner" / "cnn.py").write_text(NETS)
    (folder / "owner" / "images.py").write_text(IMAGES)
    (folder / "own.yaml").write_text(SPACE)
    command = [sys.executable, "-P", "-m", "sqtune", "search", "--space", "own.yaml", "--json"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # and nothing of the working directory
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trials = json.loads(done.stdout)["trials"]
    assert [trial["state"] for trial in trials] == ["finished", "finished"]
    return folder


def forget() -> None:
    """Do as if nothing of the user's had been imported or looked at in this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "owner"]:
        del sys.modules[name]
    source_sha256.cache_clear()


@pytest.fixture
def own(folder, monkeypatch) -> Iterator[Path]:
    """Work in the user's folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    forget()


def leave(own: Path, elsewhere: Path, monkeypatch) -> None:
    """Go to another working directory, as a new process would."""
    forget()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(own)])


def typed(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def exported(out: Path, *arguments: object) -> dict:
    answer = typed("export", "--out", out, "--json", *arguments)
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)["manifest"]


def test_an_onnx_file_of_it_needs_the_code_no_more(own, tmp_path, monkeypatch):
    manifest = exported(tmp_path / "out", "--network", NETWORKS / "00001")
    assert manifest["config"]["network"]["args"] == {"widths": [8, 12]}
    assert manifest["code"]["factory"] == "owner.cnn:Plain"
    layers = [(row["name"], row["quantizer"], row["weights"]) for row in manifest["layers"]]
    assert layers == [
        ("body.0", "ternary", 8 * 9),
        ("body.4", "ternary", 8 * 9),
        ("body.7", "ternary", 8 * 12),
        ("head", "float", 12 * 10),
    ]
    assert manifest["size"]["bytes"] <= manifest["size"]["predicted_bytes"]
    assert manifest["verification"]["optimised"]["num_ties"] == 0
    errors = manifest["errors"]
    assert errors["num_test"] == 897  # the user's own test set, whole
    assert errors["validation"] == errors["validation_torch"]
    leave(own, tmp_path, monkeypatch)
    answer = typed("verify", tmp_path / "out")
    assert answer.exit_code == 0, answer.stderr
    assert "owner" not in sys.modules


def test_c_sources_of_it_take_what_was_predicted(own, tmp_path):
    size = exported(tmp_path / "out", "--trial", 0, "--form", "c")["size"]
    assert size["bytes"] == size["predicted_bytes"]
    assert size["ram_bytes"] == size["predicted_ram_bytes"]
    assert typed("verify", tmp_path / "out").exit_code == 0


def test_a_file_for_torch_runs_the_code_only_where_it_is_allowed(own, tmp_path, monkeypatch):
    out = tmp_path / "out"
    exported(out, "--network", NETWORKS / "00000", "--form", "torch")
    assert (
        "| needs | sqtune and torch, and the code that builds the network, owner.cnn:Plain |"
        in (out / "README.md").read_text(encoding="utf-8")
    )
    forget()
    trained = own / NETWORKS / "00000"
    for place in (out, trained):
        with pytest.raises(ConfigError, match=r"built by owner\.cnn:Plain: loading it runs"):
            sqtune.load(place)
    answer = typed("verify", out)
    assert answer.exit_code == 2
    assert "allow it: --run-factory" in answer.stderr
    assert "owner" not in sys.modules
    assert typed("verify", out, "--run-factory").exit_code == 0
    pixels = torch.randint(0, 256, (4, 1, 6, 8), dtype=torch.uint8)
    from_file, from_store = (sqtune.load(each, run_factory=True) for each in (out, trained))
    assert torch.equal(from_file(pixels), from_store(pixels))
    leave(own, tmp_path, monkeypatch)
    answer = typed("verify", out, "--run-factory")
    assert answer.exit_code == 2
    assert "there is no module owner" in answer.stderr


def test_a_factory_that_fails_ends_a_search_before_anything_is_written(own, tmp_path):
    network = '{factory: "owner.cnn:Plain", args: {widths: [6]}}'
    command = ["search", "--space", "own.yaml", "--store", tmp_path / "store"]
    answer = typed(*command, "--set", f"trial.network={network}")
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: trial.network.factory: owner.cnn:Plain failed: ")
    assert "ValueError: not enough values to unpack" in answer.stderr
    answer = typed(*command, "--set", "trial.keep_float=[tail]")
    assert answer.exit_code == 2
    assert "the rule 'tail' matches no layer. The layers are: body.0," in answer.stderr
    assert not (tmp_path / "store").exists()


def test_train_and_plan_take_it_and_other_code_is_another_study(own):
    answer = typed("train", "--space", "own.yaml", "--set", "trial.num_epochs=1", "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["config"]["network"]["args"] == {"widths": [6, 8]}
    plan = typed("plan", "--space", "own.yaml", "--json")
    assert plan.exit_code == 0, plan.stderr
    assert json.loads(plan.stdout)["survey"]["points"] == 2
    code = own / "owner" / "cnn.py"
    code.write_text(NETS + "# another\n")
    forget()
    answer = typed("search", "--space", "own.yaml", "--trials", 3)
    code.write_text(NETS)
    assert answer.exit_code == 2
    assert "owner.cnn:Plain has changed since" in answer.stderr

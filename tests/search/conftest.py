"""What the tests in test_search.py share.

RECONSTRUCTED: a helper session overwrote the original by mistake (it was in no commit). This is
built from what test_search.py uses; the author should put the original back.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = """\
trial:
  data: {name: digits}
  network: {name: resnet8, width: 4}
  schedule: {name: linear}
  batch_size: 128
  num_epochs: 8
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3, 4], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 4, sampler: random, seed: 0}
resources: {cpus: 1}
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sqtune", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=200, check=False
    )


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def table(answer: subprocess.CompletedProcess[str]) -> list[tuple[object, ...]]:
    """Return (number, configuration, validation error) of each trial that --json printed."""
    trials = json.loads(answer.stdout)["trials"]
    return [(trial["number"], trial["config"], trial["val_error"]) for trial in trials]


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def searched(
    space: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Search once, undisturbed."""
    store = tmp_path_factory.mktemp("searched") / "store"
    answer = run("search", "--space", space, "--store", store, "--json")
    assert answer.returncode == 0, answer.stderr
    return store, answer

"""One small space, searched once by the real command, looked at by many tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = """
name: small
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 8
  batch_size: 32
  schedule: {name: linear}
space:
  optimizer.lr: {float: [0.02, 0.3], log: true}
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {int: [2, 4], when: {quantizer.name: uniform}}
search: {num_trials: 4, sampler: random}
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sqtune", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=240, check=False
    )
    assert "Traceback" not in answer.stderr, answer.stderr
    return answer


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def written(folder: Path, text: str) -> Path:
    """Write a space file."""
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def searched_table(space: Path, store: Path) -> list[tuple[object, ...]]:
    """Search on this machine, undisturbed; return what must not depend on interruptions."""
    answer = run("search", "--space", space, "--store", store, "--json")
    assert answer.returncode == 0, answer.stderr
    return table(answer)


def no_failures(store: Path) -> list[tuple[object, ...]]:
    """Return a store's table, none of whose trials has failed."""
    shown = run("show", "--store", store, "--json")
    assert not [
        trial["failure"] for trial in json.loads(shown.stdout)["trials"] if trial["failure"]
    ]
    return table(shown)


def table(answer: subprocess.CompletedProcess[str]) -> list[tuple[object, ...]]:
    """Return what must not depend on interruptions, from the output of --json."""
    return [
        (trial["number"], trial["state"], trial["val_error"], json.dumps(trial["config"]))
        for trial in json.loads(answer.stdout)["trials"]
    ]


@pytest.fixture(scope="session")
def space(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("space"), SPACE)


@pytest.fixture(scope="session")
def searched(space, tmp_path_factory):
    """Return the store of a finished search and what the command printed."""
    store = tmp_path_factory.mktemp("searched") / "store"
    answer = run("search", "--space", space, "--store", store, "--json")
    assert answer.returncode == 0, answer.stderr
    return store, answer

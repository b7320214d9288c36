"""A search whose tracking server is killed in the middle: it ends well and MLflow has everything.

The tracking row of the crash matrix, with real processes: `sqtune search` and `mlflow server`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Server, recorded, steps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NUM_EPOCHS = 6
SPACE = f"""
trial:
  network: {{name: resnet8, width: 4}}
  num_epochs: {NUM_EPOCHS}
  batch_size: 64
  schedule: {{name: linear}}
space:
  optimizer.lr: {{float: [0.02, 0.3], log: true}}
  quantizer.name: {{choice: [binary, ternary]}}
search: {{sampler: random}}
"""


class Search:
    """`sqtune search` in a process of its own, recorded by a server."""

    def __init__(self, folder: Path, name: str, uri: str, num_trials: int, *more: str) -> None:
        space = folder / "space.yaml"
        space.write_text(SPACE)
        self.store = folder / "store"
        self.command = [sys.executable, "-m", "sqtune", "search", "--space", str(space)]
        self.command += ["--name", name, "--store", str(self.store), "--tracking-uri", uri]
        self.command += ["--trials", str(num_trials), *more]
        self.num_trials = num_trials
        self.output = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield
            self.output += self._process.stdout.read()
            assert self._process.wait() == 0, self.output
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def wait_for_ended_trials(self, how_many: int) -> None:
        while how_many:
            line = self._process.stdout.readline()
            assert line, self.output
            self.output += line
            how_many -= line.startswith("trial ")


def assert_everything_is_there_once(server: Server, search: Search, name: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "sqtune", "show", name, "--store", search.store, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    stored = {trial["number"]: trial for trial in json.loads(shown.stdout)["trials"]}
    parent, trials = recorded(server.uri, name)
    assert parent.info.status == "FINISHED"
    assert sorted(trials) == sorted(stored) == list(range(search.num_trials))
    for number, run in trials.items():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["val_error"] == stored[number]["val_error"]
        for metric in ("train_loss", "val_error"):
            assert steps(server.uri, run, metric) == list(range(1, NUM_EPOCHS + 1))
        for metric in ("size_bytes", "seconds"):
            assert steps(server.uri, run, metric) == [0]
    best = [number for number, run in trials.items() if run.data.tags.get("sqtune.best") == "true"]
    assert len(best) == 1


def assert_the_same_command_makes_good(server: Server, search: Search, name: str) -> None:
    server.start()
    server.wait()
    search.output = ""
    with search.running():
        pass
    assert "warning" not in search.output, search.output
    assert "starting Ray" not in search.output, search.output
    assert_everything_is_there_once(server, search, name)


def test_a_server_killed_and_started_again_costs_nothing(server: Server, tmp_path):
    search = Search(tmp_path, "back", server.uri, 10)  # enough to outlast the server's start
    with search.running():
        search.wait_for_ended_trials(2)
        server.kill()
        search.wait_for_ended_trials(1)  # it ends while nobody listens
        server.start()
        server.wait()
    assert "warning" not in search.output, search.output
    assert_everything_is_there_once(server, search, "back")


@pytest.mark.long
def test_of_a_server_that_stays_away_the_same_command_makes_good(server: Server, tmp_path):
    search = Search(tmp_path, "gone", server.uri, 5)
    with search.running():
        search.wait_for_ended_trials(2)
        server.kill()
    assert "warning: MLflow does not have everything" in search.output
    assert f"missing on {server.uri}: no answer for" in search.output
    assert_the_same_command_makes_good(server, search, "gone")


@pytest.mark.long
def test_offline_a_server_that_is_not_there_at_the_start_gets_everything_later(
    server: Server, tmp_path
):
    server.kill()
    search = Search(tmp_path, "later", server.uri, 2, "--offline")
    with search.running():
        pass
    assert "warning: MLflow does not have everything" in search.output
    assert_the_same_command_makes_good(server, search, "later")

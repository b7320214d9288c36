"""optuna-dashboard, Optuna's own pages, on our studies: a real server, asked as its pages do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import Any

import pytest
from ray_cluster import free_port

from sqtune.search.storage import open_storage
from sqtune.search.study import Study

from .studies import asked, finish, new_store, on_digits, space_of

pytest.importorskip("optuna_dashboard", reason="pip install 'sqtune[dashboard]'")

SPACE = """
name: Zif fern <b>数字</b>
trial: {network: {name: resnet8, width: 4}, num_epochs: 2}
space:
  optimizer.lr: {float: [0.02, 0.3], log: true}
  schedule: {choice: [{name: exponential}, {name: linear, reach: 0.7}]}
"""
MAIN = "from optuna_dashboard._cli import main; main()"


@contextmanager
def dashboard(storage: str):
    """Run the server and yield what asks it."""
    url = f"http://127.0.0.1:{(port := free_port())}/api"
    command = [sys.executable, "-c", MAIN, storage, "--port", str(port), "--server", "wsgiref"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path: str, **put: Any) -> Any:
        body = json.dumps(put).encode() if put else None
        request = urllib.request.Request(
            f"{url}/{path}",
            body,
            {"Content-Type": "application/json"},
            method="PUT" if put else "GET",
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ask("studies")
                break
            except OSError:
                assert server.poll() is None, "it ended at once"
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield ask
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_it_lists_a_study_and_its_trials_while_that_is_driven(tmp_path, kind):
    store = new_store(tmp_path / "störe")
    url = None if kind == "journal" else f"sqlite:///{tmp_path / 'studies.db'}"
    space = space_of(tmp_path, SPACE)
    study = Study.create_or_continue(open_storage(store, url), space, {}, footprint=on_digits)
    for error in (0.25, 0.125):
        finish(study, asked(study), error)
    study.fail(asked(study).number, "the loss became nan.")
    running = asked(study)
    study.report(running.number, 1, {"train_loss": 2.0, "val_error": 0.5})
    with dashboard(url or str(store.journal)) as ask:
        [summary] = ask("studies")["study_summaries"]
        assert (summary["study_name"], summary["directions"]) == (space.name, ["minimize"])
        number = summary["study_id"]
        shown = ask(f"studies/{number}")
        assert shown["objective_names"] == ["val_error"]
        states = [trial["state"] for trial in shown["trials"]]
        assert states == ["Complete", "Complete", "Fail", "Running"]
        first, *_, last = shown["trials"]
        assert first["values"] == [0.25]
        assert [v["value"] for v in first["intermediate_values"]] == [0.25, 0.25]
        assert [v["value"] for v in last["intermediate_values"]] == [0.5]
        assert {p["name"] for p in first["params"]} == {"optimizer.lr", "schedule"}

        begun = time.monotonic()
        ask(f"studies/{number}/note", body="seen", version=1)
        assert time.monotonic() - begun < 10  # its lock is another one than ours
        study.report(running.number, 2, {"train_loss": 1.0, "val_error": 0.25})
        study.finish(running.number, 0.25, {"num_validation": 449})
        shown = ask(f"studies/{number}")
        assert shown["note"]["body"] == "seen"
    again = Study.load(open_storage(store, url), space.name)
    assert [trial.state for trial in again.trials()] == ["finished"] * 2 + ["failed", "finished"]

"""`sqtune.search` as programs call it, with real Ray, a real store and real signals."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from search.conftest import run

import sqtune
from sqtune.errors import ConfigError, ResourceError

sys.path.insert(0, str(Path(__file__).parent))
from typed_example import use

NAME = "Zif fern 数字"


CTRL_C = """
import json, sqtune
try:
    sqtune.search(json.loads({space!r}), trials=40, store={store!r})
except KeyboardInterrupt as interrupt:
    print("interrupted:", interrupt)
    print(sorted(set(sqtune.open_study(store={store!r}).trials.state)))
    raise
"""


def space(**more: object) -> dict[str, object]:
    """Return a space as a notebook has it: tuples, numpy's numbers, no file."""
    return {
        "name": NAME,
        "trial": {
            "network": {"name": "resnet8", "width": np.int64(4)},
            "num_epochs": 4,
            "batch_size": 32,
            "schedule": {"name": "stages", "ratios": (0.5, 1.0), "starts": (0, 0.25)},
        },
        "space": {"optimizer.lr": {"float": (np.float32(0.0625), 0.25), "log": True}},
        "search": {"num_trials": 2, "sampler": "random"},
        **more,
    }


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Return a store and the study that a thread searched there, and what it printed."""
    store = tmp_path_factory.mktemp("of a notebook") / "störe"
    found: list[sqtune.Study] = []

    def search() -> None:
        found.append(sqtune.search(space(), store=store, quiet=True))

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    [study] = found
    return store, study


def test_a_thread_searches_what_a_mapping_says(searched):
    store, study = searched
    assert (study.name, study.ending) == (NAME, "complete")
    assert list(study.trials.state) == ["finished", "finished"]
    assert study.trials["optimizer.lr"].between(0.0625, 0.25).all()
    best = study.best()
    assert best.test_error is not None
    assert len(best.epochs) == 4
    assert best.config["schedule"]["ratios"] == [0.5, 1.0]
    pd.testing.assert_frame_equal(study.trials, sqtune.open_study(NAME, store=store).trials)


def test_its_page_is_a_file_of_its_mlflow_run(searched):
    from mlflow import MlflowClient

    store, _ = searched
    uri = f"sqlite:///{store}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(NAME).experiment_id
    own = "tags.`sqtune.space_hash` LIKE '%'"
    [run] = client.search_runs([experiment], own)
    page = Path(client.download_artifacts(run.info.run_id, "report/report.html"))
    assert f"--store '{store}'" in html.unescape(page.read_text(encoding="utf-8"))


def test_the_command_shows_the_same_study(searched):
    store, study = searched
    shown = json.loads(run("show", "--store", store, "--json").stdout)
    assert shown["study"] == NAME
    assert [trial["val_error"] for trial in shown["trials"]] == list(study.trials.val_error)
    assert shown["front"] == list(study.front.index)


def test_the_same_call_goes_on_and_prints_a_line_a_trial(searched, capsys):
    store, study = searched
    again = sqtune.search(space(), trials=3, store=store)
    out = capsys.readouterr().out
    assert out.count("trial   2  error") == 1
    assert "\x1b" not in out
    assert out.count("\n") < 10
    pd.testing.assert_frame_equal(again.trials[["val_error"]][:2], study.trials[["val_error"]])
    assert len(again.trials) == 3


def test_an_export_predicts_what_the_network_does(searched, tmp_path, capsys):
    best = sqtune.open_study(store=searched[0]).best()
    out = best.export(tmp_path / "out", "torch", quiet=True)
    assert capsys.readouterr().out == ""
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(sqtune.load(out)(pixels), sqtune.load(best.network)(pixels))
    with pytest.raises(sqtune.SqtuneError, match="holds an exported network already"):
        best.export(tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"overrides": {"trial.optimizer.lrr": 1}}, '^overrides: trial.optimizer.lrr.*"lr"'),
        ({}, {"overrides": {"trial.seed": object()}}, "trial.seed: <object .* is no value"),
        ({}, {"trials": -1}, "^trials=-1: must be greater than or equal to 1"),
        ({}, {"overrides": ["trial.num_epochs=2"]}, r"^overrides=\[.*: give a mapping"),
        ({}, {"trials": "3"}, "^trials='3': give a whole number"),
        ({}, {"name": 3}, "^name=3: give a text"),
        ({}, {"address": 8265}, "^address=8265: give a text"),
        ({}, {"time_limit": "soon"}, "time_limit: 'soon' is not a time"),
        ({}, {"target_error": 7}, "target_error: 7 is not an error"),
        ({"sapce": {}}, {}, 'the given space: sapce: no such field. Did you mean "space"'),
        ({"trial": {"num_epochs": "4"}}, {}, "the given space: trial.num_epochs: "),
    ],
)
def test_mistakes_are_errors_with_a_remedy(tmp_path, changes, options, message):
    with pytest.raises(ConfigError, match=message):
        sqtune.search(space(**changes), store=tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: sqtune.search(None), "^space=None: give a space file's path, or a mapping"),
        (lambda: sqtune.open_study(3), "^name=3: give a study's name"),
        (lambda: sqtune.open_study(store=b"store"), "^store=b'store': give a folder or a URL"),
    ],
)
def test_what_is_of_another_kind_is_named(tmp_path, monkeypatch, act, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        act()
    assert not any(tmp_path.iterdir())


def test_a_second_ray_in_the_process_is_refused(tmp_path):
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(ResourceError, match="Ray runs in this process already"):
            sqtune.search(space(), store=tmp_path / "store", quiet=True)
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_ctrl_c_ends_it_in_good_order(tmp_path):
    store = str(tmp_path / "store")
    code = CTRL_C.format(space=json.dumps(space(), default=np.generic.item), store=store)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        for line in process.stdout:
            if line.startswith("trial   0"):
                break
        os.killpg(process.pid, signal.SIGINT)  # as a notebook's interrupt does
        begun = time.monotonic()
        out, err = process.communicate(timeout=120)
        assert time.monotonic() - begun < 60
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode != 0, err
    assert f'sqtune.open_study("{NAME}") has what is there' in out
    assert "finished" in out.splitlines()[-1]
    assert "running" not in out.splitlines()[-1]
    assert err.count("Traceback") == 1
    assert "KeyboardInterrupt: interrupted; " in err


def test_the_typed_example_runs(searched, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert use(space(), searched[0], tmp_path / "out") in range(10)

"""One command searches, records and picks; the same command goes on; kill -9 loses nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from sqtune.data.split import open_prepared
from sqtune.search.look import load_study
from sqtune.search.pareto import front, ranking
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store
from sqtune.train.checkpoint import load_network
from sqtune.train.loop import METRICS, saved_error

from .conftest import SPACE, run, start, table

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def mlflow_runs(store: Path):
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "sqtune.trial" not in run.data.tags]
    children = {int(r.data.tags["sqtune.trial"]): r for r in runs if "sqtune.trial" in r.data.tags}
    assert len(parents) == 1
    assert len(children) == len(runs) - 1, "an MLflow run was doubled"
    return client, parents[0], children


def leftovers(store: Path) -> list[str]:
    """Return the processes that still name the store."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(store) in line and process.pid != os.getpid():
            found.append(line)
    return found


def test_stdout_is_one_json_object_with_every_trial_finished(searched):
    store, answer = searched
    content = json.loads(answer.stdout)
    assert content["ending"] == "complete"
    assert [trial["state"] for trial in content["trials"]] == ["finished"] * 4
    errors = [trial["val_error"] for trial in content["trials"]]
    assert content["best"]["val_error"] == min(errors)
    assert content["best"]["test_error"] is not None
    tested = [t["number"] for t in content["trials"] if t["test_error"] is not None]
    assert tested == [content["best"]["number"]]
    assert not leftovers(store)


def test_conditions_hold_in_every_trial(searched):
    for trial in json.loads(searched[1].stdout)["trials"]:
        quantizer = trial["config"]["quantizer"]
        assert ("bits" in quantizer) == (quantizer["name"] == "uniform")


def test_mlflow_has_one_parent_and_one_whole_child_per_trial(searched):
    store, answer = searched
    client, parent, children = mlflow_runs(store)
    assert parent.info.status == "FINISHED"
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} >= {"space.yaml"}
    for trial in json.loads(answer.stdout)["trials"]:
        child = children[trial["number"]]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.params["quantizer.name"] == trial["config"]["quantizer"]["name"]
        for metric in METRICS:
            history = client.get_metric_history(child.info.run_id, metric)
            assert sorted(point.step for point in history) == list(range(1, 9))
        assert child.data.metrics["val_error"] == trial["val_error"]
        files = {a.path for a in client.list_artifacts(child.info.run_id, "network")}
        assert "network/codes.safetensors" in files


def test_mlflows_views_choose_runs_that_have_what_they_show(searched):
    store, _ = searched
    client, parent, children = mlflow_runs(store)
    experiment = parent.info.experiment_id
    tags = client.get_experiment(experiment).tags
    views = {
        name.removeprefix("mlflow.sharedViewState."): json.loads(view)
        for name, view in tags.items()
        if name.startswith("mlflow.sharedViewState.")
    }
    _, trials = load_study(str(store), None, "small")
    best_first = ranking(trials)
    chosen = {"sqtune-front": front(trials), "sqtune-trials": best_first}
    assert views.keys() == chosen.keys()
    metrics = {name for child in children.values() for name in child.data.metrics}
    params = {name for child in children.values() for name in child.data.params}
    for name, view in views.items():
        order = f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"
        found = client.search_runs([experiment], view["searchFilter"], order_by=[order])
        errors = [run.data.metrics["val_error"] for run in found]
        assert errors == [trial.val_error for trial in chosen[name]]
        assert {int(run.data.tags["sqtune.trial"]) for run in found} == {
            trial.number for trial in chosen[name]
        }
        columns = [column.replace("`", "").split(".", 1) for column in view["selectedColumns"]]
        assert {column for kind, column in columns if kind == "metrics"} <= metrics
        searched_values = {column for kind, column in columns if kind == "params"}
        assert searched_values - {"quantizer.bits"} == {"optimizer.lr", "quantizer.name"} <= params
        charts = view["compareRunCharts"]
        shown = {
            chart[axis]["key"] for chart in charts for axis in ("xaxis", "yaxis") if axis in chart
        }
        shown |= {chart["metricKey"] for chart in charts if "metricKey" in chart}
        assert {"val_error", "size_bytes", "ratio", "seconds"} <= shown <= metrics


def test_the_best_networks_files_in_mlflow_reload_to_the_same_error(searched, tmp_path):
    store, answer = searched
    client, _, children = mlflow_runs(store)
    best = json.loads(answer.stdout)["best"]
    child = children[best["number"]]
    assert child.data.tags["sqtune.best"] == "true"
    folder = Path(client.download_artifacts(child.info.run_id, "network", str(tmp_path)))
    [prepared] = (store / "data").iterdir()
    assert saved_error(folder, open_prepared(prepared), "validation") == best["val_error"]
    assert saved_error(folder, open_prepared(prepared), "test") == best["test_error"]
    assert load_network(folder).config.nested() == best["config"]


def test_the_studys_page_is_in_mlflow(searched):
    store, _ = searched
    pages = [path.read_text() for path in (store / "mlartifacts").rglob("report/report.html")]
    [page] = [page for page in pages if "Study “small”" in page]  # a confirmation has its own
    assert "finished networks is trial" in page
    assert page.count('data-chart="layers"') == 1  # the winner's network was there


def test_show_and_best_agree_with_the_search(searched):
    store, answer = searched
    content = json.loads(answer.stdout)
    shown = json.loads(run("show", "--store", store, "--json").stdout)
    assert [t["val_error"] for t in shown["trials"]] == [t[2] for t in table(answer)]
    best = json.loads(run("best", "small", "--store", store, "--json").stdout)
    assert best["number"] == content["best"]["number"]
    smallest = min(trial["size_bytes"] for trial in content["trials"])
    fitting = run("best", "--store", store, "--max-size", f"{smallest}B", "--json")
    assert json.loads(fitting.stdout)["size_bytes"] == smallest
    too_small = run("best", "--store", store, "--max-size", "1kB")
    assert too_small.returncode == 2
    assert "the smallest" in too_small.stderr


def test_the_command_confirms_the_best_of_a_search(searched):
    store, _ = searched
    asked = ("--top", 1, "--seeds", 2, "--quiet", "--json")
    answer = run("confirm", "small", "--store", store, *asked)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    content = json.loads(answer.stdout)
    assert content["ending"] == "complete"
    assert len(content["confirmed"][0]["errors"]) == 2
    best = json.loads(run("best", "--store", store, "--json").stdout)
    assert best["study"] == "small"  # a confirmation does not become the latest study
    assert best["confirmed"]["results"] == content["confirmed"]
    assert best["network"] == content["network"]
    client, parent, children = mlflow_runs(store)
    assert parent.info.status == "FINISHED"
    [chosen] = [n for n, child in children.items() if child.data.tags.get("sqtune.best") == "true"]
    assert chosen == best["number"]
    note = parent.data.tags["mlflow.note.content"]
    assert f"Best: [trial {chosen}]" in note
    assert "confirmed: mean" in note
    assert len(client.search_experiments()) == 3  # the study, its confirmation, MLflow's own


def test_the_same_command_again_runs_nothing_and_one_trial_more_runs_one(searched, space):
    store, answer = searched
    again = run("search", "--space", space, "--store", store, "--json")
    assert table(again) == table(answer)
    assert "starting Ray" not in again.stderr
    more = run("search", "--space", space, "--store", store, "--trials", 5)
    assert more.returncode == 0
    lines = [line for line in more.stdout.splitlines() if line.startswith("trial ")]
    assert len(lines) == 1
    assert lines[0].startswith("trial   4  error ")
    _, _, children = mlflow_runs(store)
    assert sorted(children) == [0, 1, 2, 3, 4]


def test_a_changed_space_is_refused_and_what_differs_is_named(searched, space):
    answer = run("search", "--space", space, "--store", searched[0], "--set", "trial.num_epochs=9")
    assert answer.returncode == 2
    assert "trial.num_epochs: 8 -> 9" in answer.stderr
    assert "--name" in answer.stderr


def test_a_trial_that_diverges_fails_with_a_reason_and_the_others_go_on(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SPACE.replace("{float: [0.02, 0.3], log: true}", "{choice: [0.1, 1e30]}"))
    store = tmp_path / "store"
    answer = run("search", "--space", path, "--store", store, "--json", "--trials", 5)
    trials = json.loads(answer.stdout)["trials"]
    states = {trial["config"]["optimizer"]["lr"]: trial["state"] for trial in trials}
    assert states == {0.1: "finished", 1e30: "failed"}
    reasons = [trial["failure"] for trial in trials if trial["state"] == "failed"]
    assert all("Lower the learning rate" in reason for reason in reasons)
    assert "failed" in run("show", "--store", store).stdout


def wait_for(store: Path, reached) -> None:
    """Wait until the study's trials, read as `sqtune show` reads them, are so far."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (store / "studies.journal").exists():
            try:
                trials = Study.load(open_storage(Store.at(store), None), "small").trials()
            except Exception:  # the study is not written yet
                trials = []
            if reached(trials):
                return
        time.sleep(0.25)
    raise AssertionError("the search did not get so far")


MOMENTS = {
    "as the first trial is asked for": lambda trials: len(trials) >= 1,
    "in the first epochs": lambda trials: any(trial.epochs for trial in trials),
    "after a finished trial": lambda trials: any(t.val_error is not None for t in trials),
}
*EARLIER, LAST = MOMENTS


@pytest.mark.parametrize(
    "moment", [LAST, *(pytest.param(each, marks=pytest.mark.long) for each in EARLIER)]
)
def test_after_kill_9_the_same_command_gives_the_undisturbed_table(
    searched, space, tmp_path, moment
):
    store = tmp_path / "store"
    arguments = ("search", "--space", space, "--store", store, "--trials", 4, "--json")
    driver = start(*arguments)
    wait_for(store, MOMENTS[moment])
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert "running" not in run("show", "--store", store).stdout
    with (store / "studies.journal").open("ab") as journal:
        journal.write(b'{"op_code": 8, "half a line')  # as a write cut short would leave it
    answer = run(*arguments)
    assert answer.returncode == 0, answer.stderr
    undisturbed = run("show", "--store", searched[0], "--json")
    assert table(answer) == table(undisturbed)[:4]
    _, _, children = mlflow_runs(store)
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    assert sorted(children) == [0, 1, 2, 3]


def test_a_second_driver_is_refused(space, tmp_path):
    with Store.at(tmp_path / "store").driven("small"):
        second = run("search", "--space", space, "--store", tmp_path / "store")
    assert second.returncode == 2
    assert f"being driven by process {os.getpid()} on" in second.stderr


def test_ctrl_c_leaves_the_study_consistent(searched, space, tmp_path):
    store = tmp_path / "store"
    arguments = ("search", "--space", space, "--store", store, "--trials", 4)
    driver = start(*arguments)
    wait_for(store, MOMENTS["in the first epochs"])
    os.kill(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, output
    assert "the same command goes on" in output
    _, parent, children = mlflow_runs(store)
    assert parent.info.status == "KILLED"
    assert {child.info.status for child in children.values()} <= {"KILLED", "FINISHED"}
    assert "interrupted" in run("show", "--store", store).stdout
    answer = run(*arguments, "--json")
    assert table(answer) == table(run("show", "--store", searched[0], "--json"))[:4]
    _, _, children = mlflow_runs(store)
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    assert not leftovers(store)

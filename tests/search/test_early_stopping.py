"""Early stopping with real Ray, Optuna and MLflow: who is stopped is PRUNED, never COMPLETE."""

from __future__ import annotations

import itertools
import json

import pytest
from optuna.trial import TrialState

from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store

from .conftest import run
from .test_search import leftovers, mlflow_runs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SPACE = """
name: small
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 8
  batch_size: 32
  schedule: {name: stages, ratios: [0, 0.5, 1], starts: [0, 0.25, 0.5]}
space:
  optimizer.lr: {choice: [0.2, 0.1, 1e-4, 1e-5]}
  quantizer.name: {choice: [binary, ternary]}
search:
  num_trials: 8
  sampler: grid
  early_stopping: {name: KIND, rungs: [0.5], keep: 0.5, min_trials: 2}
"""


@pytest.mark.parametrize("kind", ["pause", pytest.param("stop", marks=pytest.mark.long)])
def test_the_worse_part_is_pruned_with_its_epochs_and_the_better_finishes(tmp_path, kind):
    path, store = tmp_path / "small.yaml", tmp_path / "store"
    path.write_text(SPACE.replace("KIND", kind))
    answer = run("search", "--space", path, "--store", store, "--json")
    assert answer.returncode == 0, answer.stderr
    content = json.loads(answer.stdout)
    states = {trial["number"]: trial["state"] for trial in content["trials"]}
    stopped = [number for number, state in states.items() if state == "stopped"]
    assert stopped
    assert set(states.values()) == {"finished", "stopped"}
    rates = {trial["config"]["optimizer"]["lr"] for trial in content["trials"]}
    finished = {
        t["config"]["optimizer"]["lr"] for t in content["trials"] if t["state"] == "finished"
    }
    assert max(rates) in finished
    assert content["best"]["state"] == "finished"
    assert content["epochs_trained"] < content["epochs_asked"]

    study = Study.load(open_storage(Store.at(store), None), "small")
    for trial in study._study.get_trials():
        ended = TrialState.PRUNED if trial.number in stopped else TrialState.COMPLETE
        assert trial.state == ended
        measured = range(3, 5) if trial.number in stopped else range(3, 9)
        assert sorted(trial.intermediate_values) == list(measured)  # none in the float warm-up

    _, parent, children = mlflow_runs(store)
    assert parent.info.status == "FINISHED"
    for number, child in children.items():
        wanted = "KILLED" if number in stopped else "FINISHED"
        assert child.info.status == wanted
        assert (child.data.tags.get("sqtune.state") == "stopped") == (number in stopped)
    fronts = [n for n, child in children.items() if child.data.tags.get("sqtune.front") == "true"]
    finished = [trial for trial in content["trials"] if trial["state"] == "finished"]
    places = [(trial["val_error"], trial["size_bytes"], trial["number"]) for trial in finished]
    behind = {  # of networks that are equal the first one stands for all
        number
        for (error, size, number), other in itertools.permutations(places, 2)
        if other[0] <= error and other[1] <= size and other < (error, size, number)
    }
    assert set(fronts) == {trial["number"] for trial in finished} - behind
    assert not leftovers(store)

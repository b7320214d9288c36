"""The tracker on the embedded store: states, the front, what an earlier driver left out."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sqtune.tracking import NOTE_TAG, Tracker
from sqtune.tracking.page import log_page
from sqtune.tracking.quiet import QUIET

from .conftest import recorded, steps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

STOPPED = {"sqtune.state": "stopped", "sqtune.why": "rung at epoch 2"}


def epochs(number: int, last: int, **more: float) -> list[dict[str, float]]:
    """Return what the study stores of a trial's epochs; the first lack val_error."""
    return [
        {
            "epoch": epoch,
            "time": 1_700_000_000_000 + 1000 * epoch,
            "train_loss": 1 / (epoch + number),
            **({"val_error": 0.5 / epoch} if epoch > 2 else {}),
            **more,
        }
        for epoch in range(1, last + 1)
    ]


@contextmanager
def tracking(folder, error=None):
    tracker = Tracker(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", "small")
    tracker.start_study("uuid-1", {"sqtune.study": "small"}, {"seed": 3}, {"space.yaml": "x: 1"})
    yield tracker
    tracker.close()
    assert tracker.error is None or error is not None, tracker.error
    assert error is None or error in tracker.error


def runs(folder):
    return recorded(f"sqlite:///{folder / 'mlflow.db'}", "small")


def history(folder, run, metric):
    return steps(f"sqlite:///{folder / 'mlflow.db'}", run, metric)


def test_each_trial_has_one_run_with_its_epochs_once(tmp_path):
    file = tmp_path / "codes.safetensors"
    file.write_bytes(b"codes")
    with tracking(tmp_path) as tracker:
        for number in (0, 1):
            tracker.start_trial(number, {"optimizer.lr": 0.1, "schedule.ratios": (0.5, 1.0)})
            for record in epochs(number, 4, restored=1.0):
                tracker.log_epoch(number, record)
        tracker.end_trial(0, "FINISHED", {"size_bytes": 2048}, {"sqtune.node": "here"}, [file])
        tracker.end_trial(1, "FAILED", tags={"sqtune.failure": "loss"})
        tracker.choose(0, [file], {"sqtune.test_error": "0.1"})
        tracker.end_study("FINISHED", {"trials_ended": 2.0})
    parent, trials = runs(tmp_path)
    assert (parent.info.status, parent.data.metrics) == ("FINISHED", {"trials_ended": 2.0})
    assert {number: run.info.status for number, run in trials.items()} == {
        0: "FINISHED",
        1: "FAILED",
    }
    assert trials[0].data.params == {"optimizer.lr": "0.1", "schedule.ratios": "(0.5, 1.0)"}
    assert trials[0].data.metrics["size_bytes"] == 2048
    assert trials[0].info.end_time == 1_700_000_004_000
    assert trials[0].data.tags["sqtune.best"] == "true"
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.info.run_id}
    for run in trials.values():
        assert history(tmp_path, run, "train_loss") == [1, 2, 3, 4]
        assert history(tmp_path, run, "restored") == [1, 2, 3, 4]
        assert history(tmp_path, run, "val_error") == [3, 4]
    assert dict([tracker.new_run_ids.get(), tracker.new_run_ids.get()]) == {
        number: run.info.run_id for number, run in trials.items()
    }


def test_a_study_that_has_ended_is_added_to_and_stays_as_it_is(tmp_path):
    with tracking(tmp_path) as tracker:
        for number in (0, 1):
            tracker.start_trial(number, {"optimizer.lr": 0.1})
            tracker.end_trial(number, "FINISHED")
        tracker.choose(0, [], {"sqtune.test_error": "0.1"})
        tracker.end_study("FINISHED", {"trials_ended": 2.0})
    before, _ = runs(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    later = Tracker(uri, tmp_path / "artifacts", "small", recorded="uuid-1")
    later.choose(1, [], {"sqtune.test_error": "0.2"})
    later.describe("Best: [trial 1](trial:1).")
    later.close()
    assert later.error is None
    parent, trials = runs(tmp_path)
    assert parent.info.status == before.info.status == "FINISHED"
    assert parent.info.end_time == before.info.end_time
    assert f"runs/{trials[1].info.run_id}" in parent.data.tags[NOTE_TAG]
    assert {number: run.data.tags["sqtune.best"] for number, run in trials.items()} == {
        0: "false",
        1: "true",
    }


@pytest.mark.parametrize(
    ("database", "study", "uuid"),
    [
        ("elsewhere.db", "small", "uuid-1"),
        ("mlflow.db", "large", "uuid-1"),
        ("mlflow.db", "small", "uuid-2"),
    ],
)
def test_where_a_study_is_not_recorded_nothing_is_made_of_it(tmp_path, database, study, uuid):
    with tracking(tmp_path) as tracker:
        tracker.end_study("FINISHED", {})
    later = Tracker(
        f"sqlite:///{tmp_path / database}", tmp_path / "artifacts", study, recorded=uuid
    )
    later.describe("Best.")
    later.close()
    assert f'the study "{study}" is not recorded on sqlite:///' in later.error
    assert {file.name for file in tmp_path.iterdir()} == {"mlflow.db", "artifacts"}
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert {each.name for each in client.search_experiments()} == {"Default", "small"}


def test_a_database_with_options_behind_its_name_is_one_file_and_gets_the_page(
    tmp_path, monkeypatch
):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=30"
    assert log_page(uri, "small", "uuid-1", "the page") is None
    tracker = Tracker(uri, tmp_path / "artifacts", "small")
    tracker.start_study("uuid-1", {"sqtune.space_hash": "ab"}, {}, {})
    tracker.close()
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    run_id = log_page(uri, "small", "uuid-1", "the page")
    assert not set(QUIET) & set(os.environ)
    assert run_id is not None
    page = MlflowClient(uri).download_artifacts(run_id, "report/report.html")
    assert Path(page).read_text(encoding="utf-8") == "the page"
    assert {file.name for file in tmp_path.iterdir()} == {"mlflow.db", "artifacts"}


def test_only_what_has_not_ended_is_recorded_again(tmp_path):
    ends = {
        0: {"status": "FINISHED", "metrics": {"seconds": 1.0}},
        1: {"status": "FAILED"},
        2: {"status": "KILLED", "tags": STOPPED},
        3: {"status": "KILLED"},  # interrupted
    }
    with tracking(tmp_path) as tracker:
        for number, end in ends.items():
            tracker.start_trial(number, {"lr": 0.1})
            for record in epochs(number, 3):
                tracker.log_epoch(number, record)
            tracker.end_trial(number, **end)
        tracker.start_trial(4, {"lr": 0.1})  # paused: it stays RUNNING
        tracker.log_epoch(4, epochs(4, 1)[0])
    _, before = runs(tmp_path)
    assert [before[n].info.status for n in range(5)] == [
        *("FINISHED", "FAILED", "KILLED", "KILLED", "RUNNING")
    ]
    assert before[2].data.tags["sqtune.state"] == "stopped"
    with tracking(tmp_path) as tracker:
        for number in range(6):
            tracker.record_ended_trial(
                number, {"lr": 0.1}, epochs(number, 5), status="KILLED", tags=STOPPED
            )
    _, after = runs(tmp_path)
    assert {n: run.info.run_id for n, run in after.items() if n < 5} == {
        n: run.info.run_id for n, run in before.items()
    }
    assert [after[n].info.status for n in range(6)] == ["FINISHED", "FAILED", *4 * ["KILLED"]]
    assert [len(history(tmp_path, after[n], "train_loss")) for n in range(6)] == [3, 3, 3, 5, 5, 5]


def test_the_end_of_a_trial_may_be_told_twice(tmp_path):
    for _ in range(2):
        with tracking(tmp_path) as tracker:
            tracker.start_trial(0, {"lr": 0.1})
            for record in epochs(0, 2):
                tracker.log_epoch(0, record)
            tracker.end_trial(0, "FINISHED", {"size_bytes": 7.0})
    _, trials = runs(tmp_path)
    assert history(tmp_path, trials[0], "size_bytes") == [0]
    assert history(tmp_path, trials[0], "train_loss") == [1, 2]


def test_the_descriptions_links_lead_to_the_pages(tmp_path):
    with tracking(tmp_path) as tracker:
        tracker.start_trial(0, {})
        tracker.end_trial(0, "FINISHED")
        tracker.describe("Best: [0](trial:0), [9](trial:9); [front](front), [all](charts). (front)")
        tracker.end_study("FINISHED", {})
        assert tracker.front_page is None  # no server has it
    parent, trials = runs(tmp_path)
    experiment = parent.info.experiment_id
    at = f"#/experiments/{experiment}/runs"
    training = "workflowType=machine_learning"
    note = (
        f"Best: [0]({at}/{trials[0].info.run_id}?{training}), [9](#); "
        f"[front]({at}?{training}&viewStateShareKey=sqtune-front), "
        f"[all]({at}?{training}&viewStateShareKey=sqtune-trials&compareRunsMode=CHART). (front)"
    )
    assert parent.data.tags["mlflow.note.content"] == note
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.note.content"] == note
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_front_is_tagged_and_only_what_changes_is_written(tmp_path, monkeypatch):
    written: list[str] = []
    set_tag = MlflowClient.set_tag
    monkeypatch.setattr(
        MlflowClient, "set_tag", lambda *args: (written.append(args[1]), set_tag(*args))
    )
    for numbers, num_calls in (([1, 2], 2), ([1, 3], 2), ((3, 1), 0), (set(), 2)):
        with tracking(tmp_path) as tracker:
            for number in range(4):
                tracker.start_trial(number, {"lr": 0.1})
            written.clear()
            tracker.tag_front(numbers)
        _, trials = runs(tmp_path)
        assert {n: run.data.tags["sqtune.front"] for n, run in trials.items()} == {
            n: "true" if n in numbers else "false" for n in range(4)
        }
        assert len(written) == num_calls


def test_doubled_runs_are_brought_down_to_the_one_that_has_ended(tmp_path):
    with tracking(tmp_path) as tracker:
        tracker.record_ended_trial(0, {}, epochs(0, 2), status="FINISHED")
    _, before = runs(tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    tags = {"sqtune.study_uuid": "uuid-1", "sqtune.trial": "0"}
    for _ in range(2):
        client.create_run(before[0].info.experiment_id, tags=tags)
    with tracking(tmp_path):
        pass
    _, after = runs(tmp_path)
    assert after[0].info.run_id == before[0].info.run_id


def test_a_trial_that_cannot_be_recorded_is_named_and_the_others_go_on(tmp_path):
    with tracking(tmp_path, error="1 other entry of trial 0 is missing on sqlite") as tracker:
        for number, file in ((0, tmp_path / "gone.safetensors"), (1, None)):
            tracker.start_trial(number, {"lr": 0.1})
            tracker.log_epoch(number, epochs(number, 1)[0])
            tracker.end_trial(number, "FINISHED", files=[file] if file else [])
        tracker.end_study("FINISHED", {})
    _, trials = runs(tmp_path)
    assert [trials[number].info.status for number in (0, 1)] == ["RUNNING", "FINISHED"]
    assert "gone.safetensors" in tracker.error


def test_a_database_that_is_none_stops_nothing_and_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    with tracking(tmp_path, error="not a database") as tracker:
        tracker.start_trial(0, {})
        with pytest.raises(Exception, match="does not answer"):
            tracker.wait_until_connected()
    assert "\n" not in tracker.error, "SQL and all"

"""Exported networks in real model registries: a SQLite store's and a server's."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient

from sqtune.deploy.runtime import open_session, runner
from sqtune.errors import TrackingError
from sqtune.tracking import Tracker
from sqtune.tracking.models import model_name, register
from sqtune.tracking.page import log_page
from sqtune.tracking.quiet import QUIET
from sqtune.tracking.writer import Writer

from .conftest import free_port
from .exported import CLASSES, SHAPE, exported, reserialised, sha256

PIXELS = np.random.default_rng(5).integers(0, 256, (7, *SHAPE), np.uint8)


def ended_run(
    uri: str, artifacts: Path | None, study: str, tags: dict[str, str] | None = None
) -> str:
    """Record a study with one trial that has ended; return the trial's run."""
    tracker = Tracker(uri, artifacts, study)
    tracker.start_study(study, tags or {}, {}, {})
    tracker.start_trial(3, {"optimizer.lr": 0.1})
    tracker.log_epoch(3, {"epoch": 1, "time": 1_700_000_000_000, "val_error": 0.25})
    tracker.end_trial(3, "FINISHED", {"size_bytes": 100.0}, {"sqtune.state": "finished"}, [])
    tracker.close()
    assert tracker.error is None
    number, run_id = tracker.new_run_ids.get(timeout=1)
    assert number == 3
    return run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[str, Path]:
    """Return an embedded store's URI and its folder of artifacts."""
    folder = tmp_path_factory.mktemp("store")
    return f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts"


@pytest.fixture
def loading_from():
    """Return what makes MLflow's fluent functions look into a store, as a user does."""
    before = mlflow.get_tracking_uri()
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)


def run_data(client: MlflowClient, run_id: str) -> dict:
    found = client.get_run(run_id).to_dictionary()
    return {"info": found["info"], "data": found["data"]}


def versions(client: MlflowClient, study: str) -> list:
    return sorted(
        client.search_model_versions(f"name = '{model_name(study)}'"), key=lambda v: int(v.version)
    )


def check_loaded(uri: str, model_uri: str, data: bytes, folder: Path, loading_from) -> None:
    """Check what users load against the exported file, which ONNX Runtime runs as it is."""
    expected = runner(open_session(data))(PIXELS)
    assert np.ptp(expected) > 0
    loading_from(uri)
    loaded = mlflow.pyfunc.load_model(model_uri)
    assert list(loaded.predict(PIXELS)) == ["logits"]
    assert loaded.predict(PIXELS)["logits"].tobytes() == expected.tobytes()
    again = mlflow.onnx.load_model(model_uri).SerializeToString()
    assert again == reserialised(data) != data
    assert runner(open_session(again))(PIXELS).tobytes() == expected.tobytes()
    [pixels], [logits] = loaded.metadata.signature.inputs, loaded.metadata.signature.outputs
    assert (pixels.type, pixels.shape) == (np.dtype("uint8"), (-1, *SHAPE))
    assert (logits.type, logits.shape) == (np.dtype("float32"), (-1, CLASSES))
    example = loaded.input_example
    assert example.dtype == np.uint8
    assert example.tobytes() == np.load(folder / "verify.npz")["images"][:2].tobytes()
    assert loaded.predict(example)["logits"].shape == (2, CLASSES)
    place = Path(mlflow.artifacts.download_artifacts(model_uri, tracking_uri=uri))
    assert sha256((place / "model.onnx").read_bytes()) == sha256(data)
    asked = (place / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert f"onnx=={onnx.__version__}" in asked
    assert f"numpy=={np.__version__}" in asked


def test_an_export_becomes_a_version_that_gives_the_files_logits(
    store, tmp_path, monkeypatch, loading_from
):
    uri, artifacts = store
    folder, study = tmp_path / "out", "whole"
    run_id = ended_run(uri, artifacts, study)
    manifest = exported(folder)
    data = (folder / "model.onnx").read_bytes()
    client = MlflowClient(uri, uri)
    before = run_data(client, run_id)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in (*QUIET, "MLFLOW_LOGGING_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    state = (dict(os.environ), mlflow.get_tracking_uri(), mlflow.get_registry_uri())

    done = register(uri, study, run_id, folder, manifest, best=True)

    assert (dict(os.environ), mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == state
    assert mlflow.active_run() is None
    assert list((tmp_path / "empty").iterdir()) == []
    assert (done.name, done.version, done.new) == ("sqtune-whole", 1, True)
    assert done.uri == "models:/sqtune-whole@best"
    assert run_data(client, run_id) == before
    assert before["info"]["status"] == "FINISHED"

    [version] = versions(client, study)
    assert client.get_model_version_by_alias("sqtune-whole", "best").version == version.version
    assert (version.run_id, version.status) == (run_id, "READY")
    assert version.tags == {
        "sqtune.study": study,
        "sqtune.trial": "3",
        "sqtune.form": "onnx",
        "sqtune.size_bytes": str(len(data)),
        "sqtune.sha256": sha256(data),
        "sqtune.val_error": "0.125",
        "sqtune.test_error": "0.25",
    }
    [output] = client.get_run(run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.status, model.artifact_location) == ("READY", version.source)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": done.name, "version": 1}]
    logged = {file.path for file in client.list_artifacts(run_id, "export/onnx")}
    names = ("model.onnx", "verify.npz", "README.md")
    assert logged == {f"export/onnx/{name}" for name in names}
    check_loaded(uri, done.uri, data, folder, loading_from)


def test_the_same_bytes_have_one_version_and_aliases_tell_the_last_and_the_best(store, tmp_path):
    uri, artifacts = store
    study = "again"
    run_id = ended_run(uri, artifacts, study)
    client = MlflowClient(uri, uri)
    first, second = tmp_path / "first", tmp_path / "second"
    manifests = {first: exported(first, 0), second: exported(second, 1)}
    for folder, number, new in (
        (first, 1, True),
        (first, 1, False),
        (second, 2, True),
        (first, 1, False),
    ):
        done = register(uri, study, run_id, folder, manifests[folder])
        assert (done.version, done.new) == (number, new)
        assert done.uri == f"models:/{done.name}@trial-3"
        last = client.get_model_version_by_alias(done.name, "trial-3")
        data = (folder / "model.onnx").read_bytes()
        assert last.tags["sqtune.sha256"] == sha256(data)
    assert [int(version.version) for version in versions(client, study)] == [1, 2]
    assert list(client.get_registered_model(done.name).aliases) == ["trial-3"]
    register(uri, study, run_id, second, manifests[second], best=True)
    register(uri, study, run_id, first, manifests[first] | {"source": {"trial": 4}})
    aliases = client.get_registered_model(done.name).aliases
    assert {name: int(version) for name, version in aliases.items()} == {
        "trial-3": 2,
        "best": 2,
        "trial-4": 1,
    }
    client.delete_model_version(done.name, "1")
    done = register(uri, study, run_id, first, manifests[first])
    assert (done.version, done.new) == (3, True)
    assert len(client.get_run(run_id).outputs.model_outputs) == 2  # its model was still there


def test_an_export_that_was_cut_short_goes_on_and_doubles_nothing(store, tmp_path):
    uri, artifacts = store
    study, folder = "cut short", tmp_path / "out"
    run_id = ended_run(uri, artifacts, study)
    manifest = exported(folder)
    models = artifacts / "models"
    if models.exists():
        models.rename(tmp_path / "models")
    models.touch()  # where MLflow wants to make a folder
    with pytest.raises(TrackingError, match=r"does not have what was exported.*--force"):
        register(uri, study, run_id, folder, manifest)
    client = MlflowClient(uri, uri)
    assert versions(client, study) == []
    models.unlink()
    if (tmp_path / "models").exists():
        (tmp_path / "models").rename(models)

    assert register(uri, study, run_id, folder, manifest).version == 1

    experiment = client.get_experiment_by_name(study).experiment_id
    [model] = client.search_logged_models([experiment])
    assert model.status == "READY"
    assert [output.model_id for output in client.get_run(run_id).outputs.model_outputs] == [
        model.model_id
    ]
    [version] = versions(client, study)
    assert version.source == model.artifact_location


def test_forms_without_onnx_are_artifacts_of_the_run_alone(store, tmp_path):
    uri, artifacts = store
    study = "in c"
    run_id = ended_run(uri, artifacts, study)
    manifest = exported(tmp_path / "out", form="c")
    assert register(uri, study, run_id, tmp_path / "out", manifest) is None
    client = MlflowClient(uri, uri)
    assert versions(client, study) == []
    assert "export/c/model.c" in {f.path for f in client.list_artifacts(run_id, "export/c")}


def test_what_mlflow_does_not_have_is_said(store, tmp_path):
    uri, artifacts = store
    manifest = exported(tmp_path / "out")
    with pytest.raises(TrackingError, match='trial 3 of "study" has no MLflow run'):
        register(uri, "study", None, tmp_path / "out", manifest)
    ended_run(uri, artifacts, "study")
    with pytest.raises(TrackingError, match=f"has no run {'0' * 32}"):
        register(uri, "study", "0" * 32, tmp_path / "out", manifest)
    missing = tmp_path / "missing.db"
    with pytest.raises(TrackingError, match="there is no file"):
        register(f"sqlite:///{missing}", "study", "0" * 32, tmp_path / "out", manifest)
    assert not missing.exists()
    missing.mkdir()
    with pytest.raises(TrackingError, match="there is no file"):
        register(f"sqlite:///{missing}", "study", "0" * 32, tmp_path / "out", manifest)
    assert log_page(f"sqlite:///{missing}", "study", "study", "<p>") is None
    with pytest.raises(TrackingError, match=r"missing\.db is no file"):
        Writer(f"sqlite:///{missing}", artifacts, "study", print).connect()
    with pytest.raises(TrackingError, match=r"give --tracking-uri\. The files are complete"):
        register(None, "study", "0" * 32, tmp_path / "out", manifest)


def test_no_message_shows_a_password_of_the_servers_address(tmp_path):
    uri = f"http://me:hidden@127.0.0.1:{free_port()}"
    manifest = exported(tmp_path / "out")
    tracker = Tracker(uri, None, "study")
    for ask in (
        lambda: register(uri, "study", "0" * 32, tmp_path / "out", manifest),
        lambda: log_page(uri, "study", "id", "page"),
        tracker.wait_until_connected,
    ):
        with pytest.raises(TrackingError, match=r"me:\*\*\*@") as caught:
            ask()
        assert "hidden" not in str(caught.value)
    assert "me:***@" in str(tracker.trouble)
    assert "hidden" not in str(tracker.trouble)
    tracker.close()


def test_a_server_has_the_same_until_it_is_away(server, tmp_path, loading_from):
    study, folder = 'a/b:c "ö"', tmp_path / "out"
    run_id = ended_run(server.uri, None, study)
    manifest = exported(folder, form="native")
    client = MlflowClient(server.uri, server.uri)
    before = run_data(client, run_id)

    done = register(server.uri, study, run_id, folder, manifest, best=True)

    again = register(server.uri, study, run_id, folder, manifest)
    assert (done.new, again.new) == (True, False)
    assert run_data(client, run_id) == before
    [version] = versions(client, study)
    assert client.get_registered_model(done.name).tags == {"sqtune.study": study}
    assert client.get_model_version_by_alias(done.name, "best").version == version.version
    assert version.tags["sqtune.form"] == "native"
    data = (folder / "model.onnx").read_bytes()
    check_loaded(server.uri, done.uri, data, folder, loading_from)

    server.kill()
    begun = time.monotonic()
    with pytest.raises(TrackingError, match=r"does not answer.*--force registers them"):
        register(server.uri, study, run_id, folder, manifest)
    assert time.monotonic() - begun < 60


def test_names_that_mlflow_refuses_are_mapped_apart():
    assert model_name("resnet-20_w1") == "sqtune-resnet-20_w1"
    names = {model_name(study) for study in ("a/b", "a:b", "a b", "a_b", "a@b", "a.b", "ä", "ö")}
    assert len(names) == 8
    assert not any(set(name) & set("/:@'\"% .") for name in names)

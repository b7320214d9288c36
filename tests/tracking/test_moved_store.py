"""A store that is moved or copied keeps its records: MLflow's addresses are absolute."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from mlflow import MlflowClient

from sqtune.errors import TrackingError
from sqtune.mlflow_ui import serve
from sqtune.store import Store
from sqtune.tracking.database import follow_move, tracking_uri
from sqtune.tracking.models import register
from sqtune.tracking.page import log_page
from sqtune.tracking.writer import Writer

from .exported import exported
from .test_models import ended_run


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """Return a store with a recorded study and a registered network, and the trial's run."""
    store = Store.at(tmp_path_factory.mktemp("desk one") / "the store")
    tags = {"sqtune.space_hash": "0"}
    run_id = ended_run(store.tracking_uri, store.artifacts, "moved", tags)
    folder = store.root.parent / "a"
    assert register(store.tracking_uri, "moved", run_id, folder, exported(folder))
    return store, run_id


def test_a_copy_is_written_and_read_in_its_own_folder(first, tmp_path):
    store, run_id = first
    copy = Store.at(tmp_path / "copy")
    shutil.copytree(store.root, copy.root)
    before = files(store.root)

    uri = tracking_uri(copy, None)
    assert uri == copy.tracking_uri
    assert log_page(uri, "moved", "moved", "<p>a page</p>")
    done = register(uri, "moved", run_id, tmp_path / "b", exported(tmp_path / "b", seed=1))
    assert done is not None
    assert done.version == 2

    assert files(store.root) == before
    new = set(files(copy.root)) - set(before)
    assert any(name.endswith("report/report.html") for name in new)
    assert any(name.endswith("model.onnx") for name in new)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    places = [client.get_run(run_id).info.artifact_uri]
    places += [version.source for version in client.search_model_versions("name = 'sqtune-moved'")]
    places += [client.get_model_version_download_uri("sqtune-moved", number) for number in "12"]
    for place in places:
        assert Path(unquote(urlparse(place).path)).is_relative_to(copy.artifacts)


def test_a_search_and_the_pages_follow_too(first, tmp_path):
    store, _ = first
    for number in range(2):
        copy = Store.at(tmp_path / f"copy {number}")
        shutil.copytree(store.root, copy.root)
        if number:
            Writer(copy.tracking_uri, copy.artifacts, "moved", print).connect()
        else:
            with closing(socket.create_server(("127.0.0.1", 0))) as taken:
                port = taken.getsockname()[1]
                with pytest.raises(TrackingError, match="is in use"):
                    serve(copy, port, print)
        client = MlflowClient(tracking_uri=copy.tracking_uri)
        location = client.get_experiment_by_name("moved").artifact_location
        assert location == copy.artifacts.as_uri()


def test_what_lies_elsewhere_or_is_the_same_folder_stays(first, tmp_path):
    store, run_id = first
    copy = Store.at(tmp_path / "copy")
    shutil.copytree(store.root, copy.root)
    database, client = copy.root / "mlflow.db", MlflowClient(tracking_uri=copy.tracking_uri)
    client.create_experiment("bucket", "s3://bucket/mlartifacts")
    client.create_experiment("other", "file:///elsewhere/files")
    link = tmp_path / "link"
    link.symlink_to(store.root)
    follow_move(database, link / "mlartifacts")  # the first store's, by another name
    assert Path(unquote(urlparse(client.get_run(run_id).info.artifact_uri).path)).is_relative_to(
        store.artifacts
    )
    follow_move(database, copy.artifacts)
    kept = {found.name: found.artifact_location for found in client.search_experiments()}
    assert kept["bucket"] == "s3://bucket/mlartifacts"
    assert kept["other"] == "file:///elsewhere/files"
    assert kept["moved"] == copy.artifacts.as_uri()


def test_a_database_that_cannot_be_changed_is_named(first, tmp_path):
    store, _ = first
    copy = Store.at(tmp_path / "copy")
    shutil.copytree(store.root, copy.root)
    database = copy.root / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
    before = MlflowClient(tracking_uri=copy.tracking_uri).get_experiment_by_name("moved")
    with pytest.raises(TrackingError, match=r"mlflow\.db: .* changed: not now\. Make it"):
        follow_move(database, copy.artifacts)
    after = MlflowClient(tracking_uri=copy.tracking_uri).get_experiment_by_name("moved")
    assert before.artifact_location == after.artifact_location == store.artifacts.as_uri()


def test_a_running_search_keeps_its_place(first, tmp_path):
    store, run_id = first
    copy = Store.at(tmp_path / "by another path")
    shutil.copytree(store.root, copy.root)
    location = MlflowClient(tracking_uri=copy.tracking_uri).get_run(run_id).info.artifact_uri
    with (
        copy.driven("moved"),
        pytest.raises(TrackingError, match=r"where a search writes \(moved\).*Use that path"),
    ):
        tracking_uri(copy, None)
    shutil.move(copy.artifacts, tmp_path / "elsewhere")  # nothing came along
    assert tracking_uri(copy, None) == copy.tracking_uri
    client = MlflowClient(tracking_uri=copy.tracking_uri)
    assert client.get_run(run_id).info.artifact_uri == location


def test_a_locked_database_is_told_from_one_that_cannot_be_written(first, tmp_path, monkeypatch):
    store, _ = first
    copy = Store.at(tmp_path / "copy")
    shutil.copytree(store.root, copy.root)
    monkeypatch.setattr("sqtune.tracking.database.LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(copy.root / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=r"locked\. Another process writes to it"):
            follow_move(copy.root / "mlflow.db", copy.artifacts)
    (tmp_path / "text").write_text("no database, but as long as the header of one " * 9)
    follow_move(tmp_path / "text", copy.artifacts)  # MLflow tells

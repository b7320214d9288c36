"""`sqtune report`: page, pictures, MLflow, and what is refused."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image
from search.studies import asked, finish, new_store, opened, space_of

from report.made_up import report, study
from sqtune.cli import main
from sqtune.errors import ConfigError
from sqtune.report.charts import charts_of
from sqtune.report.facts import gather
from sqtune.report.files import has_pictures_of, refuse_taken, write, write_pictures
from sqtune.report.render import png
from sqtune.search.record import PAGE, record_page
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.store import Store
from sqtune.tracking import Tracker

SPACE = """
name: my study
trial: {network: {name: resnet8, width: 4}, num_epochs: 2}
space: {optimizer.lr: {float: [0.02, 0.3], log: true}}
search: {num_trials: 3, sampler: random}
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with a study of three trials whose trainings are made up."""
    monkeypatch.chdir(tmp_path)
    store = new_store(tmp_path / "store")
    study = opened(store, space_of(tmp_path, SPACE))
    for error in (0.3, 0.2, 0.4):
        finish(study, asked(study), error)
    return store


def record(store):
    """Give the study its run in MLflow."""
    study = Study.load(open_storage(store, None), None)
    tracker = Tracker(store.tracking_uri, store.artifacts, study.name, store.root)
    tracker.start_study(study.attrs["uuid"], {"sqtune.space_hash": "abc"}, {}, {})
    tracker.end_study("FINISHED", {})
    tracker.close()
    assert tracker.error is None


def typed(store, *arguments):
    words = ["report", "--store", store.root, *arguments]
    return CliRunner().invoke(main, [str(word) for word in words])


def logged(store):
    """Return the page that MLflow has of the only study."""
    client = MlflowClient(tracking_uri=store.tracking_uri)
    [experiment] = [each for each in client.search_experiments() if each.name == "my study"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    return (store.artifacts / run.info.run_id / "artifacts" / PAGE).read_text()


def test_the_page_is_written_logged_and_replaced_by_the_same_studys_alone(store, tmp_path):
    record(store)
    answer = typed(store)
    assert answer.exit_code == 0, answer.output
    [path] = tmp_path.glob("*.html")
    assert re.fullmatch(r"my_study-[0-9a-f]{8}\.html", path.name)
    text = path.read_text()
    assert text == logged(store)
    assert "The best of 3 finished networks is trial 1" in text
    assert "--store" in text  # in the commands
    assert typed(store).exit_code == 0  # again, of the same study
    text = path.read_text()  # which says when it was made
    copy = Store.at(tmp_path / "copy")
    shutil.copytree(store.root, copy.root)
    words = ["report", "--store", copy.root, "--out", tmp_path / "of the copy.page"]
    # in a process of its own: MLflow keeps in one where a run's files lie
    subprocess.run([sys.executable, "-m", "sqtune", *words], check=True, capture_output=True)
    assert logged(copy) == (tmp_path / "of the copy.page").read_text() != text
    assert logged(store) == text
    path.write_text(
        path.read_text().replace(
            'name="sqtune-study" content="', 'name="sqtune-study" content="another', 1
        )
    )
    again = typed(store)
    assert again.exit_code == 2
    assert f"--out {path.name}: exists and is no page of this study" in again.stderr
    assert typed(store, "--force").exit_code == 0
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine")
    refused = typed(store, "--out", mine, "--force")
    assert refused.exit_code == 2
    assert "no page of sqtune report" in refused.stderr
    assert mine.read_text() == "<p>mine"


def test_json_says_what_was_written_and_pictures_are_pictures(store, tmp_path):
    out, folder = tmp_path / "new" / "page.html", tmp_path / "charts"
    answer = typed(store, "my study", "--out", out, "--png", folder, "--json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["report"] == str(out)
    assert told["bytes"] == out.stat().st_size
    assert told["finding"].startswith("The best of 3")
    assert told["mlflow_run"] is None
    pictures = sorted(folder.iterdir())
    assert [str(picture) for picture in pictures] == told["pictures"]
    assert [picture.stem.split("-", 1)[1] for picture in pictures] == told["charts"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    stale = folder / "99-gone.png"
    stale.write_bytes(pictures[0].read_bytes())
    assert typed(store, "--out", out, "--png", folder).exit_code == 0  # again, of the same study
    assert sorted(folder.iterdir()) == pictures
    Image.open(pictures[0]).verify()
    (folder / "mine.png").write_bytes(b"\x89PNG")
    taken = typed(store, "--out", tmp_path / "other.html", "--png", folder)
    assert "--png" in taken.stderr
    assert not (tmp_path / "other.html").exists()


def test_a_full_disk_leaves_no_half_picture_and_the_same_command_goes_on(tmp_path):
    found = report(tmp_path, ["finished"] * 3)
    charts, folder, uuid = charts_of(found).all(), tmp_path / "charts", found.uuid
    sizes = [len(png(chart)) for chart in charts[:2]]
    assert sizes[0] < sizes[1]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sum(sizes) // 2, hard))
    try:
        with pytest.raises(ConfigError, match=r"--png .*/02-.*cannot be written: File too large"):
            write_pictures(folder, charts, uuid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name[:3] for path in folder.iterdir()] == ["01-"]
    assert has_pictures_of(uuid, folder)
    assert len(write_pictures(folder, charts, uuid)) == len(charts)


def test_an_empty_study_has_a_page_all_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = new_store(tmp_path / "store")
    opened(store, space_of(tmp_path, SPACE))
    answer = typed(store, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["charts"] == []
    assert not (store.root / "mlflow.db").exists()


def test_a_tracking_server_that_is_away_is_a_warning(store):
    answer = typed(store, "--tracking-uri", "http://127.0.0.1:9")
    assert answer.exit_code == 0
    assert "warning: MLflow does not have the page" in answer.stderr


def test_places_that_cannot_be_written_are_refused(store, tmp_path):
    assert "is a folder" in typed(store, "--out", tmp_path).stderr
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in typed(store, "--out", tmp_path / "file" / "page.html").stderr


def test_a_page_is_written_as_a_whole(tmp_path):
    out = tmp_path / "page.html"
    refuse_taken(out, "abc", force=False)
    write(out, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_made_ends_no_search():
    said = []

    def broken(*_):
        raise ZeroDivisionError("oh")

    record_page(broken, None, [], None, None, said.append)
    assert said == ["no page for MLflow (ZeroDivisionError: oh); see: sqtune report"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"methods": [{}]}', "[]"])
def test_a_comparison_whose_table_is_not_whole_has_none(tmp_path, text):
    folder = new_store(tmp_path / "store").comparison("made up")
    folder.mkdir(parents=True)
    (folder / "compare.json").write_text(text)
    assert report(tmp_path, ["finished"], attrs={"compares": True}).comparison is None


def test_a_comparison_has_its_methods_on_the_page(tmp_path, monkeypatch):
    """From what `sqtune compare` wrote down, without training anything."""
    from sqtune.config.compare import Method
    from sqtune.report.page import page
    from sqtune.search.compare import Cell, Gain, Row

    method = Method(name="BWN", values={"quantizer": {"name": "binary"}}, published=0.1)
    other = Method(name="SQ", values={"quantizer": {"name": "binary"}}, against="BWN")
    errors = {0: 0.2, 1: 0.3, 2: 0.25}
    cell = Cell(4, 1.0, {}, errors, {}, {3: "the loss became nan"}, cut_short=False)
    rows = [
        Row(method, {"paper": cell, 1: cell}, {"paper": None, 1: None}),
        Row(other, {"paper": cell, 1: cell}, {"paper": Gain(0.1, 0.01, 3), 1: Gain(0.0, 0.1, 3)}),
    ]
    assert [Row.from_data(json.loads(json.dumps(row.as_data()))) for row in rows] == rows
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    url = f"memory://{tmp_path}/store"
    there, made = Store.at(url), study(["finished"] * 6, attrs={"compares": True})
    folder = there.comparison("made up")
    folder.mkdir(parents=True)
    data = {"methods": [row.as_data() for row in rows], "num_epochs": 4, "num_seeds": 3}
    (folder / "compare.json").write_text(json.dumps(data))
    there.share(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))  # another machine
    text = page(gather(made, made.trials(), Store.at(url)))
    assert "The lowest mean test error has BWN" in text
    assert "1 ahead, 1 within the noise" in text
    assert "published, BWN: 10.00 %" in text
    assert text.count("25.00 ± 5.00") >= 4
    assert "BWN, the paper&#39;s budget, seed 3: the loss became nan" in text

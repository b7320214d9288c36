"""An exported folder gets its name as a whole; whatever is raised on the way changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sqtune.deploy.folder import new_folder, refuse_taken
from sqtune.errors import ExportError


def contents(folder) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def manifest(seal: str, *names: str) -> str:
    return json.dumps({"seal": seal, "sha256": dict.fromkeys(names, "")})


def failing_export(out) -> None:
    with new_folder(out, force=True) as folder:
        (folder / "manifest.json").write_text("new")
        raise ExportError("other classes")


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_raised_while_it_is_written_leaves_all_as_it_was(tmp_path, is_there):
    out = tmp_path / "out"
    if is_there:
        with new_folder(out, force=False) as folder:
            (folder / "manifest.json").write_text(manifest("old"))
    before = contents(tmp_path)
    with pytest.raises(ExportError, match="other classes"):
        failing_export(out)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if is_there else [])


def test_a_new_one_takes_the_whole_place_of_an_old_one(tmp_path):
    out = tmp_path / "out"
    for name in ("first", "second"):
        with new_folder(out, force=True) as folder:
            (folder / "manifest.json").write_text(manifest(name, name))
            (folder / name).write_text("mine")
    assert contents(tmp_path) == {
        "out/manifest.json": manifest("second", "second"),
        "out/second": "mine",
    }


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.json": '{"name": "my web app"}', "index.html": "mine"},
        {"manifest.json": '{"sha256": {"index.html": ""}}', "index.html": "mine"},
        {"manifest.json": "no JSON"},
        {"manifest.json": "[]"},
        {"manifest.json": manifest("ours", "model.onnx"), "model.onnx": "", "notes.txt": "mine"},
    ],
)
def test_what_no_export_wrote_is_not_replaced_even_with_force(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ExportError, match="even with --force"):
        refuse_taken(tmp_path, force=True)


def test_where_a_disk_is_mounted_is_refused_before_any_work():
    with pytest.raises(ExportError, match="mounted"):
        refuse_taken(Path("/"), force=True)

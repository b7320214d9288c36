"""Every space file in the documents is one that sqtune takes."""

from __future__ import annotations

import pytest

from sqtune.config import load_space
from sqtune.errors import ConfigError

from .blocks import DOCUMENTS, blocks

WHOLE = [
    (document, number, text)
    for document in ("docs/cookbook.md", "docs/tutorial.md")
    for number, (_, text) in enumerate(blocks(document, "yaml"))
]
PARTS = [
    (document, number, text)
    for document in DOCUMENTS
    for number, (_, text) in enumerate(blocks(document, "yaml"))
    if (document, number, text) not in WHOLE and not document.startswith("cluster/")
]


@pytest.mark.parametrize(("document", "number", "text"), WHOLE)
def test_a_whole_space_file_loads(document, number, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobilenet_v2.pth").touch()
    (tmp_path / "space.yaml").write_text(text)
    space = load_space(tmp_path / "space.yaml")
    assert space.space or space.compare


@pytest.mark.parametrize(("document", "number", "text"), PARTS)
def test_a_part_of_a_space_file_has_no_field_that_does_not_exist(document, number, text, tmp_path):
    (tmp_path / "space.yaml").write_text(text)
    problem = ""
    try:
        load_space(tmp_path / "space.yaml")
    except ConfigError as error:
        problem = str(error)
    of_the_reader = ("there is no module mypackage", "no such folder or file")
    assert not problem or any(text in problem for text in of_the_reader)

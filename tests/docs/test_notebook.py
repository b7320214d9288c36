"""The tutorial's notebook executes from its first cell to its last."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from .blocks import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def test_the_notebook_executes(tmp_path):
    notebook = nbformat.read(ROOT / "docs/tutorial.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear its outputs"
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": tmp_path}}).execute()
    shown = {out.output_type for cell in notebook.cells for out in cell.get("outputs", ())}
    assert "error" not in shown
    kinds = {
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        for kind in out.get("data", ())
    }
    assert {"image/png", "text/html"} <= kinds

"""The tutorial and the cookbook's commands, as a reader would type them."""

from __future__ import annotations

import pytest

from .blocks import blocks, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def test_tutorial_and_cookbook_run_as_they_stand(tmp_path):
    printed = {}
    for kind, text in blocks("docs/tutorial.md", "python", "yaml", "bash"):
        if kind == "yaml":
            name = text.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(text)
        else:
            printed[text.split("\n", 1)[0]] = run(kind, text, tmp_path)
    assert "trials    6 finished" in printed["sqtune search --space my-images.yaml"]
    assert "digit-" in printed["sqtune export --out deployed"]  # of predict, in the same block
    for _, text in blocks("docs/cookbook.md", "bash"):
        run("bash", text, tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert list((tmp_path / "deployed-c").glob("*.c"))

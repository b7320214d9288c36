"""The site builds without a warning; links within it lead somewhere."""

from __future__ import annotations

import subprocess
import sys

from .blocks import ROOT


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "site"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tutorial" in (tmp_path / "site/searchindex.js").read_text()

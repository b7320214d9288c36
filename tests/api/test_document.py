"""docs/python.md: its blocks run, one after the other, with fewer and shorter trials."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = '{"trial.num_epochs": 2, "trial.network.width": 4}'
SHORTER = {
    "trials=24": f"trials=2, overrides={SMALL}",
    "trials=12": "trials=1",
    '{"trial.num_epochs": 10}': SMALL,
    'best.export("deployed")': 'best.export("deployed", "torch")',  # which proves and measures less
}


@pytest.mark.long
def test_the_blocks_of_the_document_run(tmp_path):
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    for written, shorter in SHORTER.items():
        assert written in code
        code = code.replace(written, shorter)
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "agg", "SQTUNE_STORE": str(tmp_path / "store")},
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "deployed/model.safetensors").exists()
    assert run.stderr == ""

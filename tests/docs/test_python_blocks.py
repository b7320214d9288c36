"""Every Python block of the documents runs, one after the other, in a stranger's process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README_LOOP = """
import torch
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
num_steps = 8
batches = [(torch.randn(16, 1, 8, 8), torch.randint(10, (16,))) for _ in range(num_steps)]
evaluate = lambda model: model.eval()(batches[0][0])
"""


@pytest.mark.parametrize(
    ("document", "before"), [("README.md", README_LOOP), ("docs/own-model.md", "")]
)
def test_the_python_blocks_of_a_document_run(document: str, before: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    code = "\n".join([before, *blocks])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr

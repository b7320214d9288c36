"""A worker that reports nothing is ended, and its log says where it hung."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqtune.config import TrialConfig
from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.networks import ResNet
from sqtune.search.worker import death_reason

SCRIPT = """
import sys
from sqtune.search.worker import Assignment, Leg
config, data, folder = sys.argv[1:]
Leg(Assignment(0, config, folder, data, "network", 1, "cpu", "log", 3.0)).advance()
"""


def test_an_epoch_that_takes_too_long_ends_the_process_with_its_stacks_in_the_log(tmp_path: Path):
    prepare(Digits(), tmp_path / "data")
    [data] = (tmp_path / "data").iterdir()
    config = TrialConfig(network=ResNet("resnet56", 32))  # an epoch takes many seconds
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            config.model_dump_json(),
            f"data/{data.name}",
            str(tmp_path),
        ],
        check=False,
        timeout=60,
    )
    assert answer.returncode == 1
    log = (tmp_path / "log").read_text()
    assert "Timeout (" in log
    assert "run_epoch" in log
    assert "search.watchdog_seconds" in death_reason(3, tmp_path / "log")


def test_other_deaths_are_put_down_to_memory(tmp_path: Path):
    hung_before = "now on process 1: {}\nTimeout (0:00:01)!\nnow on process 2: {}\nepoch 1\n"
    (tmp_path / "log").write_text(hung_before)
    assert "out of memory" in death_reason(3, tmp_path / "log")
    assert "out of memory" in death_reason(3, tmp_path / "no log")

"""cluster/local: up, a search by what it printed, down; and nothing is left running."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from search.conftest import written

from .services import postgres_programs
from .test_files import CLUSTER

LOCAL = CLUSTER / "local"
SPACE = """
name: small
trial: {network: {name: resnet8, width: 4}, num_epochs: 4, batch_size: 32}
space: {optimizer.lr: {choice: [0.05, 0.1]}}
search: {num_trials: 2, sampler: grid}
"""
SECRETS = ("token", "pgpass", "passwords/admin", "passwords/study", "passwords/tracking")


@pytest.fixture
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="sq"))
    found.chmod(0o711)  # PostgreSQL of a test by root runs as another user
    try:
        yield found
    finally:
        say("down", found)
        shutil.rmtree(found, ignore_errors=True)


def say(what: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LOCAL / what, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={
            **os.environ,
            "SQTUNE_LOCAL": str(folder),
            "SQTUNE_VENV": str(Path(sys.executable).parents[1]),
        },
    )


def family(folder: Path) -> list[psutil.Process]:
    """Return the processes of all sessions that `up` started."""
    listed = (folder / "processes").read_text().split("\n")
    sessions = {int(line.split()[1]) for line in listed if line}
    return [each for each in psutil.process_iter() if os.getsid(each.pid) in sessions]


def is_ray(process: psutil.Process) -> bool:
    """Tell whether a process is Ray's, whose token guards it wherever it listens."""
    return bool(re.search(r"\bray(let|\b)", " ".join([process.name(), *process.cmdline()])))


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.skipif(postgres_programs() is None, reason="there is no PostgreSQL")
def test_up_gives_a_cluster_that_a_search_uses_and_down_leaves_nothing(folder, tmp_path):
    up = say("up", folder)
    assert up.returncode == 0, up.stderr
    commands = dict(re.findall(r"^  (source|sqtune|xdg-open) (.*)$", up.stdout, re.M))
    assert len(commands) == 3, up.stdout
    assert say("status", folder).returncode == 0
    again = say("up", folder)
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "it is up")

    ours = family(folder)
    assert len(ours) > 6
    listening = [
        each.laddr.ip
        for process in ours
        for each in process.net_connections()
        if each.status == psutil.CONN_LISTEN and not is_ray(process)
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
    for name in SECRETS:
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    secrets = [(folder / name).read_text() for name in SECRETS if name != "pgpass"]
    shown = up.stdout + up.stderr + (folder / "config.toml").read_text()
    shown += (folder / "env").read_text() + "".join(" ".join(each.cmdline()) for each in ours)
    assert not [secret for secret in secrets if secret in shown]

    space = written(tmp_path, SPACE)
    search = f"source {commands['source']} && {sys.executable} -m sqtune search --space {space}"
    done = subprocess.run(["bash", "-c", search], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 trials to go, 2 at once" in done.stdout
    assert (folder / "store" / "networks" / "small").is_dir()
    with urllib.request.urlopen(commands["xdg-open"], timeout=10) as page:
        assert page.status == 200

    down = say("down", folder)
    assert down.returncode == 0, down.stderr
    assert not psutil.wait_procs(ours, timeout=5)[1]
    assert say("status", folder).returncode == 3
    assert (folder / "postgres" / "PG_VERSION").exists()
    assert say("down", folder, "--delete-data").returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("words", [("--nodes", "0"), ("--nodes",), ("--node",)])
def test_what_up_does_not_know_is_refused(folder, words):
    refused = say("up", folder, *words)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {words[0]}")
    assert say("status", folder).returncode == 3

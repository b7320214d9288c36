"""The shell scripts of cluster/ run, with stand-ins for the programs that need a cluster."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .test_files import CLUSTER, ROOT

NOTE = 'printf "%s %s\\n" "$(basename "$0")" "$*" >> "$NOTES"\n'


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(stage: Path, name: str, body: str = "") -> None:
    """Put a stand-in, which writes down its arguments, in front of the real programs."""
    path = stage / "bin" / name
    path.write_text(f"#!/usr/bin/env bash\n{NOTE}{body}")
    path.chmod(0o755)


def notes(stage: Path, name: str) -> list[str]:
    path = stage / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def start(stage: Path, *command: str | Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "PATH": f"{stage / 'bin'}:{os.environ['PATH']}",
            "HOME": str(stage / "home"),
            "NOTES": str(stage / "notes"),
            **environ,
        },
    )


SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_GPUS_ON_NODE": "2",
    "RAY_AUTH_TOKEN": "of-the-shell",
}


@pytest.fixture
def slurm(stage: Path) -> Path:
    """Two nodes; the head answers at once, and the search takes as long as the file `hold` is."""
    count = f"{sys.executable} -c 'import json; print(json.dumps(dict(nodes=[{{}}, {{}}])))'"
    program(stage, "scontrol", 'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; fi')
    program(stage, "getent", 'echo "127.1.2.3 STREAM node1"')
    program(stage, "python", f'if [ "$1" = -m ]; then {count}; else {sys.executable} "$@"; fi')
    end = 'trap "kill $!; echo ended >> $NOTES.srun" TERM; echo up >> "$NOTES.up"; wait'
    program(stage, "srun", f"sleep 30 & {end}")
    program(
        stage,
        "sqtune",
        'until [ "$(grep -c up "$NOTES.up")" = 2 ]; do sleep 0.02; done 2> /dev/null\n'
        'trap "exit 130" TERM\n'
        'echo "$RAY_AUTH_MODE ${RAY_AUTH_TOKEN-unset}" > "$NOTES.environ"\n'
        "token=$RAY_AUTH_TOKEN_PATH\n"
        'stat --format=%a "$token" "$(dirname "$token")" > "$NOTES.modes"\n'
        'cp "$token" "$NOTES.token"\n'
        'while [ -e "$HOLD" ]; do sleep 0.05; done',
    )
    script = (CLUSTER / "slurm.sh").read_text()
    # The head's address: a loopback one for this test, and a port that is open.
    assert "'' | 127.*)" in script
    assert '"/dev/tcp/$ip/$port"' in script
    script = script.replace("'' | 127.*)", "'')").replace('"/dev/tcp/$ip/$port"', "/dev/null")
    copy = stage / "slurm.sh"
    copy.write_text(script)
    return copy


def test_a_slurm_job_starts_ray_on_all_nodes_and_leaves_nothing(stage: Path, slurm: Path) -> None:
    run = start(
        stage, slurm, "--space", "a b.yaml", **SLURM, SLURM_SUBMIT_DIR=str(stage), HOLD="/nowhere"
    )
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    assert "Ray at 127.1.2.3:22345: 2 of 2 nodes" in out
    workers, head = sorted(notes(stage, "srun"), key=lambda step: "--head" in step)
    assert "--nodelist=node1 ray start --head --node-ip-address=127.1.2.3 --port=22345" in head
    assert "--nodes=1 --ntasks=1 --exclude=node1 ray start --address=127.1.2.3:22345" in workers
    assert all("--num-cpus=8 --num-gpus=2" in step for step in (head, workers))
    assert notes(stage, "sqtune") == ["search --address 127.1.2.3:22345 --space a b.yaml"]
    assert (stage / "notes.environ").read_text().split() == ["token", "unset"]
    assert (stage / "notes.modes").read_text().split() == ["600", "700"]
    token = (stage / "notes.token").read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert token not in out + (stage / "notes").read_text()
    assert (stage / "notes.srun").read_text().split() == ["ended", "ended"]
    assert not list((stage / "home" / ".sqtune").iterdir())


def test_a_slurm_job_queues_again_before_its_time_is_up(stage: Path, slurm: Path) -> None:
    hold = stage / "hold"
    hold.touch()
    run = start(stage, slurm, **SLURM, SLURM_SUBMIT_DIR=str(stage), HOLD=str(hold))
    deadline = time.monotonic() + 20
    while not (stage / "notes.token").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGUSR1)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130, out
    assert notes(stage, "scontrol")[-1] == "requeue 12345"
    assert not list((stage / "home" / ".sqtune").iterdir())


def test_a_slurm_job_says_when_its_node_has_no_address(stage: Path, slurm: Path) -> None:
    run = start(stage, CLUSTER / "slurm.sh", **SLURM, SLURM_SUBMIT_DIR=str(stage))
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert err == 'error: node1 has no address that other nodes can reach ("127.1.2.3")\n'


def test_slurm_asks_the_package_which_nodes_there_are() -> None:
    assert "-m sqtune.search.nodes" in (CLUSTER / "slurm.sh").read_text()
    nodes = (ROOT / "sqtune" / "search" / "nodes.py").read_text()
    assert re.search(
        r'if __name__ == "__main__":\n.*\n\s+print\(json\.dumps\({"nodes": nodes\(\)', nodes
    )


def test_passwords_are_made_once_and_shown_to_nobody(stage: Path) -> None:
    body = """
if [[ $* == *"get secret tracking "* ]]; then exit 0; elif [[ $* == *get* ]]; then exit 1; fi
for word; do
  if [[ $word == --from-file=* ]]; then cat "${word#*=password=}"; echo; fi
done >> "$NOTES.made"
"""
    program(stage, "kubectl", body)
    run = start(stage, CLUSTER / "kubernetes" / "secrets.sh")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    passwords = (stage / "notes.made").read_text().splitlines()
    assert len(set(passwords)) == 4  # the fifth exists
    assert all(re.fullmatch("[0-9a-f]{64}", password) for password in passwords)
    assert not any(password in out + (stage / "notes").read_text() for password in passwords)
    assert "secret/tracking exists" in out
    created = [line for line in notes(stage, "kubectl") if " create " in line]
    assert not any("generic tracking " in line for line in created)


@pytest.mark.parametrize("unlocked", [[], ["loose==1.0"]])
def test_an_installation_has_the_locked_versions_and_no_others(
    stage: Path, unlocked: list[str]
) -> None:
    installed = [*(ROOT / "requirements.lock").read_text().splitlines()[:5], *unlocked]
    frozen = "\\n".join([*installed, "sqtune @ file:///src"])
    program(stage, "uv", f'if [ "$2" = freeze ]; then printf "{frozen}\\n"; fi')
    run = start(stage, CLUSTER / "install.sh", "uv", "python")
    _, err = run.communicate(timeout=60)
    assert run.returncode == len(unlocked)
    assert ("loose==1.0" in err) == bool(unlocked)
    assert "--constraint requirements.lock" in notes(stage, "uv")[0]


def test_a_node_starts_only_with_a_token_which_it_closes(stage: Path) -> None:
    for name in ("sudo", "python3"):
        program(stage, name, "cat > /dev/null" if name == "sudo" else "")
    (stage / "home" / ".uv" / "bin").mkdir(parents=True)
    for name in ("pip", "uv"):
        program(stage, name)
        (stage / "bin" / name).rename(stage / "home" / ".uv" / "bin" / name)
    run = start(stage, CLUSTER / "node.sh")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "no token in ~/.ray/auth_token" in err
    token = stage / "home" / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    run = start(stage, CLUSTER / "node.sh")
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert notes(stage, "pip") == [f"install --quiet --disable-pip-version-check {lock('uv')}"]
    assert "tee /etc/profile.d/sqtune.sh" in notes(stage, "sudo")


def lock(name: str) -> str:
    return re.search(rf"^{name}==.*$", (ROOT / "requirements.lock").read_text(), re.M)[0]

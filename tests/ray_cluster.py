"""A real Ray cluster of several nodes on this machine, with its token; each node is a process."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_SECONDS = 60.0
FAST_DETECTION = {  # of a node that is gone
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


@dataclass
class RayCluster:
    """Nodes of so many CPUs each, by default one; the first is the head.

    Attributes:
        folder: For Ray's own files and the token. Short: sockets lie in it.
        host: The head's address.
        port: The head's.
        dashboard_port: Of the head's dashboard, which takes jobs; None for none.
        nodes: One `ray start --block` each.
        cpus: Of each node.
        more_environ: Further variables that they need.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    dashboard_port: int | None = None
    nodes: list[subprocess.Popen[str]] = field(default_factory=list)
    cpus: int = 1
    more_environ: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """What --address takes."""
        return f"{self.host}:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """What a driver and the nodes need."""
        token = self.folder / "token"
        if not token.exists():
            token.write_text(secrets.token_hex(32))
            token.chmod(0o600)
        return {
            **os.environ,
            **FAST_DETECTION,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # of jobs
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
            **self.more_environ,
        }

    def add(self, *before: str, more: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a node; `before` stands before the command, such as `unshare --mount`.

        `more` are options of `ray start`, the last of a kind holds: `--num-cpus 0`.
        """
        head = not self.nodes
        place = ["--address", self.address]
        if head:
            place = ["--head", "--port", str(self.port), *self._dashboard()]
        ray = Path(sys.executable).with_name("ray")
        log = self.folder / f"node{len(self.nodes)}.log"
        command = [
            *(*before, ray, "start", *place, "--num-cpus", self.cpus),
            *("--temp-dir", self.folder / "ray", "--disable-usage-stats", "--block"),
            *("--object-store-memory", 100 * 2**20),
            *more,
        ]
        with log.open("w") as out:
            node = subprocess.Popen(
                list(map(str, command)),
                stdout=out,
                stderr=out,
                text=True,
                env=self.environ,
                start_new_session=True,
            )
        self.nodes.append(node)
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        return node

    def _dashboard(self) -> list[str]:
        if self.dashboard_port is None:
            return ["--include-dashboard", "false"]
        place = ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(self.dashboard_port)]
        return ["--include-dashboard", "true", *place]

    def kill(self, node: subprocess.Popen[str]) -> None:
        """Kill a node with all its processes at once, as a power cut does."""
        family = psutil.Process(node.pid).children(recursive=True)
        for signalled in (psutil.Process.suspend, psutil.Process.kill):  # none sees another go
            for process in [psutil.Process(node.pid), *family]:
                signalled(process)
        node.wait(timeout=10)

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            if node.poll() is None:
                self.kill(node)
        psutil.wait_procs(
            [p for p in psutil.process_iter(["cmdline"]) if str(self.folder) in _line(p)], 5
        )


def _line(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or [])

"""A network on this machine: a bridge, and namespaces with an address each. Needs root and `ip`.

Their names hold the number of the process that made them, so several tests run at once, and what a
killed one left is removed by the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NAMESPACE, BRIDGE = "sqnet", "sqb"


def ip(*words: str) -> str:
    """Run `ip`, and return what it says."""
    answer = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"ip {' '.join(words)}: {answer.stderr}"
    return answer.stdout


@dataclass(frozen=True)
class Host:
    """A machine of the network.

    Attributes:
        namespace: Its network namespace.
        address: Its IPv4 address.
        cable: The end of its link that is plugged into the bridge.
    """

    namespace: str
    address: str
    cable: str

    def command(self, disk: Path | None = None, disk_size: str = "256m") -> list[str]:
        """Return what stands before a command that is to run there.

        Args:
            disk: A folder that is to lie on a disk of its own.
            disk_size: Of that disk, such as 64m.
        """
        inside = ["ip", "netns", "exec", self.namespace]
        if disk is None:
            return inside
        mount = 'mkdir -p "$2" && mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
        return [*inside, "sh", "-c", mount, "sh", disk_size, str(disk)]

    def plug(self, *, in_: bool) -> None:
        """Put the cable in, or pull it."""
        ip("link", "set", self.cable, "up" if in_ else "down")

    def pids(self) -> list[int]:
        """Return the processes there."""
        return [int(pid) for pid in ip("netns", "pids", self.namespace).split()]


def _free_prefix() -> str:
    """Return the beginning of a subnet to which there is no route."""
    taken = ip("-4", "route", "show", "table", "all")
    start = os.getpid()
    prefixes = (f"10.{90 + (start + n) % 160}.{(start + n) % 256}" for n in range(1000))
    return next(prefix for prefix in prefixes if f"{prefix}." not in taken)


@dataclass
class Network:
    """A bridge with an address on this machine, and hosts that are plugged into it."""

    prefix: str = field(default_factory=_free_prefix)
    hosts: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        remove_left_over()
        self.bridge = f"{BRIDGE}{os.getpid()}"
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.address}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")

    @property
    def address(self) -> str:
        """Of this machine in the network."""
        return f"{self.prefix}.254"

    def host(self) -> Host:
        """Plug in another host."""
        number = len(self.hosts) + 1
        name = f"{NAMESPACE}{os.getpid()}-{number}"
        new = Host(name, f"{self.prefix}.{number}", f"sqv{os.getpid()}-{number}")
        self.hosts.append(new)
        ip("netns", "add", name)
        ip("link", "add", new.cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", new.cable, "master", self.bridge, "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "addr", "add", f"{new.address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        return new

    def close(self) -> None:
        """End what runs on the hosts, and remove hosts and bridge."""
        _remove(os.getpid())


def remove_left_over() -> None:
    """Remove the networks of processes that have died."""
    names = [*ip("netns").split(), *(link["ifname"] for link in json.loads(ip("-j", "link")))]
    found = {re.match(rf"(?:{NAMESPACE}|{BRIDGE})(\d+)(?:-\d+)?$", name) for name in names}
    for pid in {int(match[1]) for match in found if match}:
        if not psutil.pid_exists(pid):
            _remove(pid)


def _remove(pid: int) -> None:
    for name in re.findall(rf"^{NAMESPACE}{pid}-\d+", ip("netns"), re.M):
        for process in map(int, ip("netns", "pids", name).split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        ip("netns", "delete", name)
    if f" {BRIDGE}{pid}:" in ip("-o", "link"):
        ip("link", "delete", f"{BRIDGE}{pid}")

"""Processes by name: whether the one that left its name somewhere still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def this_process() -> dict[str, object]:
    """Return what tells this process from all others; pids and ticks count within a boot."""
    host = ":".join((socket.gethostname(), _boot(), _pids()))
    return {"host": host, "pid": os.getpid(), "started_at": _started_at(os.getpid())}


def has_died(process: Mapping[str, object]) -> bool | None:
    """Tell whether a process has ended; None of one on another host, as nobody knows here.

    Args:
        process: What `this_process` returned in it.
    """
    if process.get("host") != this_process()["host"]:
        return None
    return _started_at(process.get("pid")) != process.get("started_at")


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pids() -> str:
    """Return the name space in which this process's pid counts (a container has its own)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started_at(pid: object) -> str | None:
    """Return when a process of this host started, in ticks since the boot; None: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() else _signalled(pid)
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _signalled(pid: object) -> str | None:
    """Return "" for a process that is there, where there is no /proc."""
    try:
        os.kill(int(str(pid)), 0)
    except PermissionError:
        return ""
    except (OSError, ValueError):
        return None
    return ""

"""Reaching a Ray cluster within seconds, before anything is prepared or written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from sqtune.config.options import Resources
from sqtune.errors import ClusterError, ResourceError, did_you_mean
from sqtune.search.machine import Machine, on_cpus_without_gpus, slots_of

CONNECT_SECONDS = 4.0
REACH_SECONDS = 15.0  # Ray alone would try for minutes
WATCH_SECONDS = 5.0
TOLD_AFTER = 3  # times in a row that the head did not answer
REFUSED = "InvalidAuthToken"
AUTOSCALED = "give --concurrent N if the cluster brings up nodes when they are needed."
TOKEN = (
    "Ray asks for the cluster's token: put it into ~/.ray/auth_token, or name its file in "
    "RAY_AUTH_TOKEN_PATH. For a cluster that runs without one: RAY_AUTH_MODE=disabled."
)


def reach(address: str, resources: Resources, wanted: int | None) -> Machine:
    """Return what a cluster's nodes have together.

    Ray is asked by a process of its own, which can be ended.

    Args:
        address: "auto" (of the cluster that this machine is part of) or HOST:PORT.
        resources: What one trial gets.
        wanted: Trials at once, where a number was asked for: an autoscaler may bring nodes up.

    Raises:
        ClusterError: It does not answer, or does not let us in.
        ResourceError: No node has room for a trial, or the kind of GPU that is asked for.
    """
    if address != "auto":
        _connect(address)
    answer = json.loads(_ask(address))
    nodes = answer["nodes"]
    cpus, gpus = (sum(node[kind] for node in nodes) for kind in ("cpus", "gpus"))
    note = None
    if resources.accelerator_type is not None:
        _check_kind(address, resources.accelerator_type, answer, wanted)
    else:
        why = f"no node at {address} has a GPU now"
        resources, note = on_cpus_without_gpus(resources, gpus, why)
    slots = sum(slots_of(node, resources) for node in nodes)
    if not slots and wanted is None:
        largest = max(((node["cpus"], node["gpus"]) for node in nodes), default=(0, 0))
        of_kind = f" of the kind {resources.accelerator_type}" if resources.accelerator_type else ""
        asked = "a share" if resources.gpus == "auto" else f"{resources.gpus:g}"
        raise ResourceError(
            f"resources: a trial asks for {resources.cpus:g} CPUs and {asked} GPUs{of_kind}; no "
            f"node at {address} has them (the largest: {largest[0]:g} and {largest[1]:g}). Ask for "
            f"less, or {AUTOSCALED}"
        )
    return Machine(int(cpus), int(gpus), max(slots, wanted or 0), resources, note)


def _check_kind(address: str, kind: str, answer: dict[str, Any], wanted: int | None) -> None:
    """Refuse a kind of GPU that no node has; where nodes may be brought up, one that none can."""
    there = sorted({each for node in answer["nodes"] for each in node["accelerators"]})
    if kind in there or (wanted is not None and kind in answer["accelerators"]):
        return
    has = f"Nodes there have: {', '.join(there)}." if there else "No node there has any."
    known = [*there, *answer["accelerators"]]
    near = "" if kind in known else did_you_mean(kind.upper(), known)
    hint = near if near.startswith("Did") else ""
    remedy = f"Name one of them, or {AUTOSCALED}" if wanted is None else "Ray knows no such kind."
    raise ResourceError(
        f"resources.accelerator_type: no node at {address} has {kind}. "
        + " ".join(filter(None, (has, hint, remedy)))
    )


def _connect(address: str) -> None:
    """Refuse an address at which nothing listens."""
    host, colon, port = address.rpartition(":")
    if "://" in address:
        raise ClusterError(
            f"--address {address} (or RAY_ADDRESS): Ray Client and URLs are not offered. Give the "
            "command on a machine of the cluster, with HOST:PORT or auto; send it there (sqtune "
            "submit); or train here (--address local)."
        )
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ClusterError(
            f'--address {address}: write "auto" or HOST:PORT, such as 10.0.0.1:6379 (the port of '
            "`ray start --head --port`)."
        )
    knock(address, host.strip("[]"), int(port))


@contextmanager
def watched(address: str, say: Callable[[str], object]) -> Iterator[None]:
    """Tell of a head that goes away, for the block: Ray itself ends the process after a minute.

    Args:
        address: HOST:PORT of the head.
        say: Told.
    """
    host, _, port = address.rpartition(":")
    ended = threading.Event()

    def watch() -> None:
        missed = 0
        while not ended.wait(WATCH_SECONDS):
            try:
                socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
            except OSError as error:
                missed += 1
                if missed == TOLD_AFTER:
                    say(
                        f"the head of the Ray cluster at {address} does not answer ({error}). If "
                        "it stays away for a minute, Ray ends this search. Once a head is there, "
                        "the same command goes on."
                    )
            else:
                missed = 0

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def knock(address: str, host: str, port: int) -> None:
    """Raise ClusterError where nothing listens."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"--address {address}: nothing answers there ({error}). Is the head running (`ray "
            "start --head`), and is this its address?"
        ) from error


def _ask(address: str) -> str:
    """Return what the nodes have, as JSON."""
    code, said, why = _run([sys.executable, "-m", "sqtune.search.nodes", address])
    if not code:
        return said
    if "AuthenticationError" in why:
        raise ClusterError(f"--address {address}: no token was found here. {TOKEN}")
    if REFUSED in why:
        raise ClusterError(f"--address {address}: it does not let us in with this token. {TOKEN}")
    if address == "auto" and "find any running Ray instance" in why:
        raise ClusterError(
            "--address auto: this machine is part of no running Ray cluster. Start one (`ray start "
            "--head`), or leave --address out to train on this machine alone."
        )
    lines = why.strip().splitlines()
    reason = lines[-1] if lines else f"exit code {code}"
    raise ClusterError(
        f"--address {address}: Ray cannot join the cluster: {reason}. See `ray status` there; all "
        "its machines need the same versions of Python and Ray."
    )


def _run(command: list[str]) -> tuple[int, str, str]:
    """Run a command, until it ends or there is no hope; return exit code, stdout and stderr."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        environ = {"RAY_AUTH_MODE": "token", **os.environ}
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environ)
        deadline = time.monotonic() + REACH_SECONDS
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if REFUSED.encode() in _content(err):  # Ray would go on asking
                    break
                time.sleep(0.05)
        finally:
            ended = process.poll() is not None
            process.kill()
            process.wait()
        said, why = (_content(file).decode(errors="replace") for file in (out, err))
    return process.returncode, said, why if ended else f"{why}\nno answer in {REACH_SECONDS:g} s"


def _content(file: IO[bytes]) -> bytes:
    """Return all that has been written to a file; its position stays where it is."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)

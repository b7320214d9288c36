"""Ray: whether a cluster answers, and whether Ray starts on this machine.

python -m sqtune.doctor.ray      starts Ray, runs a task, stops it and prints the seconds
"""

from __future__ import annotations

import subprocess
import sys
import time

from sqtune.doctor.examine import Finding

START_SECONDS = 90.0


def look_at_cluster(address: str) -> list[Finding]:
    """Ask a cluster what its nodes have.

    Raises:
        ClusterError: It does not answer, or does not let us in.
        ResourceError: No node has room for a trial.
    """
    from sqtune.config.options import Resources
    from sqtune.search.cluster import reach

    there = reach(address, Resources(), None)
    text = f"{address} answers: {there.cpus} CPUs and {there.gpus} GPUs in all"
    return [Finding("Ray cluster", "ok", f"{text}; a search looks at each node before it trains")]


def look_at_ray() -> list[Finding]:
    """Start Ray on this machine, run a task, and stop it."""
    command = [sys.executable, "-m", "sqtune.doctor.ray"]
    remedy = "See /tmp/ray/session_latest/logs. Ray wants some 2 GiB of memory and room in /tmp."
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        text = f"it does not start within {START_SECONDS:g} s"
        return [Finding("Ray", "problem", text, remedy)]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Finding("Ray", "problem", f"it does not start: {last}", remedy)]
    seconds = done.stdout.split()[-1]
    return [Finding("Ray", "ok", f"starts here, runs a task and stops, in {seconds} s")]


def _try() -> None:
    from sqtune.search.executor import local_ray

    with local_ray(1, 0):
        import ray

        ray.get(ray.remote(num_cpus=1)(_task).remote(), timeout=START_SECONDS)


def _task() -> None:
    """Do nothing, in a worker process."""


if __name__ == "__main__":
    begun = time.monotonic()
    _try()
    print(f"{time.monotonic() - begun:.1f}")

"""Searches as Ray jobs: sent to a cluster's head over HTTP, where they go on by themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from sqtune.search.ray_env import quieten

quieten(cluster=True)

from ray.job_submission import JobStatus, JobSubmissionClient  # noqa: E402

from sqtune.errors import ClusterError  # noqa: E402
from sqtune.search.cluster import TOKEN, knock  # noqa: E402

PATIENCE_SECONDS = 60.0  # for a head that stops answering while its log is followed
POLL_SECONDS = 2.0
REFUSED = ("Authentication failed", "authentication token", "TOKEN_PATH")


class Jobs:
    """The jobs of a cluster.

    Args:
        address: Its dashboard's, such as http://10.0.0.1:8265.

    Raises:
        ClusterError: It does not answer, or does not let us in.
    """

    def __init__(self, address: str) -> None:
        self._address, self._written = address, 0
        try:
            parts = urlsplit(address)
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
            host = parts.hostname or ""
        except (ValueError, KeyError):
            host, port = "", 0
        if not host:
            raise ClusterError(f"--address {address}: write a URL, such as http://10.0.0.1:8265.")
        knock(address, host, port)
        os.environ.pop("RAY_ADDRESS", None)  # Ray would take it in place of ours
        for name in ("job.sdk", "dashboard_sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
        try:
            self._client = JobSubmissionClient(address)
        except Exception as error:  # requests', Ray's, of many kinds
            raise self._error(error) from error

    def submit(self, command: str, job: str, working_dir: Path) -> None:
        """Send a command; it runs on the head, in a copy of the folder.

        Args:
            command: For a shell.
            job: The job's name, unique.
            working_dir: What the job and all its workers get a copy of.

        Raises:
            ClusterError: It was not taken.
        """
        runtime_env = {"working_dir": str(working_dir)}
        try:
            self._client.submit_job(entrypoint=command, submission_id=job, runtime_env=runtime_env)
        except Exception as error:
            raise self._error(error) from error

    def follow(self, job: str, write: Callable[[str], None]) -> bool:
        """Hand on a job's output until it ends; tell whether it succeeded.

        Raises:
            ClusterError: The head has stopped answering.
        """
        self._written, failing_since = 0, None
        while True:
            before = self._written
            try:
                asyncio.run(self._tail(job, write))
                status = self._client.get_job_status(job)
                if status.is_terminal():
                    return bool(status == JobStatus.SUCCEEDED)
                failing_since = None
            except Exception as error:
                if failing_since is None or self._written > before:
                    failing_since = time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise self._error(error) from error
            time.sleep(POLL_SECONDS)

    async def _tail(self, job: str, write: Callable[[str], None]) -> None:
        """Hand on what has not been written yet; the output begins anew with each connection."""
        passed = 0
        async for text in self._client.tail_job_logs(job):
            new = text[max(0, self._written - passed) :]
            passed += len(text)
            if new:
                write(new)
            self._written = max(self._written, passed)

    def _error(self, error: Exception) -> ClusterError:
        text = " ".join(str(error).split())
        if any(word in text for word in REFUSED):
            return ClusterError(f"--address {self._address}: it does not let us in. {TOKEN}")
        if isinstance(error, ConnectionError | OSError):
            return ClusterError(
                f"--address {self._address}: the cluster's dashboard does not answer: "
                f"{text[:300]}. Is this its address (http://HEAD:8265, or the near end of a tunnel "
                "to it), and was the head started with it (pip install 'sqtune[cluster]')?"
            )
        return ClusterError(
            f"--address {self._address}: the job failed to be sent: {text[:300]}. Give the "
            "command again; the head's logs say more."
        )

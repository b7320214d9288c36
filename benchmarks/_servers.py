"""Real servers of a cluster's search, on this machine alone: MLflow's, PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def mlflow_server(
    folder: Path, database: str | None = None, *, workers: int = 1
) -> Iterator[tuple[str, psutil.Process]]:
    """Run `mlflow server` with the light options for the block.

    Args:
        folder: Where its files lie.
        database: Its SQLAlchemy URL; None for SQLite in the folder.
        workers: Processes that answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", database or f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "mlflow-server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=2):
                    break
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"MLflow's server ended:\n{Path(log.name).read_text()}")
                time.sleep(0.2)
        yield uri, psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def postgres_programs() -> Path | None:
    """Return where PostgreSQL's programs lie; None where there are none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = debian[-1] if debian else shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


@contextmanager
def postgres(folder: Path, *databases: str) -> Iterator[list[str]]:
    """Run PostgreSQL for the block; yield a SQLAlchemy URL for each database.

    It listens on a socket in the folder and nowhere else; whoever may enter the folder may connect.
    Started by root it runs as the user postgres.

    Args:
        folder: An empty one, with a short path.
        databases: To create.
    """
    programs = postgres_programs()
    if programs is None:
        sys.exit("there is no PostgreSQL here: apt-get install postgresql, or leave it out")
    user = "postgres" if os.geteuid() == 0 else None
    data = folder / "data"
    if user is not None:
        shutil.chown(folder, user)
    folder.chmod(0o700)

    def run(*command: object) -> None:
        words = list(map(str, command))
        subprocess.run(words, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    run(programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "postgres")
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    control = (programs / "pg_ctl", "--pgdata", data, "--log", folder / "server.log")
    run(*control, "--options", options, "--wait", "start")
    try:
        for database in databases:
            run(programs / "createdb", "--host", folder, "--username", "postgres", database)
        yield [f"postgresql+psycopg://postgres@/{name}?host={folder}" for name in databases]
    finally:
        run(*control, "--mode", "immediate", "stop")

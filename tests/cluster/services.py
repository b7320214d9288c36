"""The servers that a cluster shares, real ones: PostgreSQL, MLflow's, and one that speaks S3."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ray_cluster import free_port

START_SECONDS = 60.0
USER = "postgres"  # PostgreSQL refuses to run as root


def postgres_programs() -> Path | None:
    """Return the folder of Debian's newest PostgreSQL, if there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass
class Postgres:
    """A PostgreSQL with two roles and databases, for a study and for MLflow.

    Attributes:
        folder: Where it lives; others may pass through.
        address: Where it listens.
    """

    folder: Path
    address: str
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.password = secrets.token_hex(16)
        self.data = self.folder / "postgres"
        self.data.mkdir()
        shutil.chown(self.data, USER)
        secret = self.folder / "pw"
        secret.write_text(self.password)
        shutil.chown(secret, USER)
        self._run(
            "initdb", "-D", self.data, "-A", "scram-sha-256", "-U", "root", "--pwfile", secret
        )
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses = '{self.address}'\nport = {self.port}\n")
            settings.write("unix_socket_directories = ''\nfsync = off\n")
        with (self.data / "pg_hba.conf").open("a") as let_in:
            let_in.write(f"host all all {self.address}/24 scram-sha-256\n")
        passwords = self.folder / "pgpass"
        passwords.write_text(f"*:*:*:*:{self.password}\n")
        passwords.chmod(0o600)
        self.environ = {"PGPASSFILE": str(passwords)}
        self.start()
        for name in ("study", "tracking"):
            self._ask(f"CREATE ROLE {name} LOGIN PASSWORD '{self.password}'")
            self._ask(f"CREATE DATABASE {name} OWNER {name}")

    def url(self, name: str) -> str:
        """Return what --study-storage takes."""
        return f"postgresql+psycopg://{name}@{self.address}:{self.port}/{name}"

    def start(self) -> None:
        """Start it, and wait for it."""
        log = self.data / "server.log"
        self._run("pg_ctl", "start", "--wait", "-D", self.data, "-l", log)

    def stop(self) -> None:
        """Stop it without a word to those who are connected."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-D", self.data, "-m", "immediate")

    def _run(self, program: str, *words: object) -> None:
        command = ["runuser", "-u", USER, "--", postgres_programs() / program, *words]
        answer = subprocess.run(
            list(map(str, command)), stdout=subprocess.DEVNULL, check=False, cwd="/"
        )
        assert answer.returncode == 0, program

    def _ask(self, statement: str) -> None:
        import psycopg

        place = f"host={self.address} port={self.port} user=root dbname=postgres"
        with psycopg.connect(f"{place} password={self.password}", autocommit=True) as connection:
            connection.execute(statement)


@dataclass
class Server:
    """A server in a process of its own, which answers HTTP."""

    command: list[object]
    url: str
    log: Path
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, self.command)),
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )
        wait_until(self._answers, self.log)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
        except urllib.error.HTTPError:  # a server that knows no such page
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it at once, with its processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def tracking_server(folder: Path, address: str, backend: str, environ: dict[str, str]) -> Server:
    """Return an MLflow server on a database, whose artifacts lie in the bucket."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", address, "--port", port),
        *("--workers", 1, "--backend-store-uri", backend),
        *("--artifacts-destination", f"s3://{BUCKET}/tracking"),
    ]
    environ = {**environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://{address}:{port}"
    return Server(command, url, folder / "mlflow.log", environ)


BUCKET = "sqtune"


class ObjectStore(Server):
    """moto's S3 server, which can refuse to be connected to."""

    def __init__(self, folder: Path, address: str) -> None:
        port = free_port()
        self._refuse = folder / "refuse"
        command = [sys.executable, Path(__file__).with_name("s3_server.py"), address, port]
        url = f"http://{address}:{port}"
        super().__init__([*command, self._refuse], url, folder / "s3.log")
        self.client_environ = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, with an empty bucket."""
        super().start()
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT"), timeout=10
        ).close()

    def refuse(self, *, now: bool) -> None:
        """Refuse all connections from now on, or let them in again; content is kept."""
        if now:
            self._refuse.touch()
        else:
            self._refuse.unlink()
        wait_until(lambda: _listens(self.url) != now, self.log)


def wait_until(reached: Callable[[], bool], log: Path) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + START_SECONDS
    while not reached():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _listens(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host, int(port)), timeout=2).close()
        return True
    return False

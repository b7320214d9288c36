"""`sqtune ui`: MLflow's own server on the store's database, bound to this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from sqtune.errors import StoreError, TrackingError
from sqtune.store import Store
from sqtune.tracking import quiet_environment
from sqtune.tracking.database import follow_move
from sqtune.tracking.pages import (
    charts_page,
    front_page,
    latest_study,
    past_proxies,
    trials_page,
)

FIRST_PORT, LAST_PORT = 5000, 5099
START_SECONDS = 60.0
BY_HAND = "What it says: mlflow server --backend-store-uri sqlite:///STORE/mlflow.db"


def serve(
    store: Store, port: int | None, on_start: Callable[[str, str | None, dict[str, str]], object]
) -> None:
    """Run the server until it is interrupted; call `on_start` once it answers.

    It is told the server's URL, the study recorded last, and addresses of that one's pages by what
    they show.

    Raises:
        StoreError: The store has no tracking database.
        TrackingError: The port is taken, or the server does not start, or ends by itself.
    """
    if store.url is not None:
        raise StoreError(
            f"--store {store.url}: its records are on the server that --tracking-uri names. Open "
            "that address in a browser."
        )
    if not (store.root / "mlflow.db").exists():
        raise StoreError(
            f"{store.root} has no tracking database. Search first, or give --store another folder."
        )
    with suppress(TrackingError):  # figures are shown, files may be missing
        follow_move(store.root / "mlflow.db", store.artifacts, store.driven_studies())
    port = free_port(port)
    quiet_environment()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", store.tracking_uri]
    command += ["--default-artifact-root", store.artifacts.as_uri()]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _wait_for(server, url)
        on_start(url, *_latest(url))
        if server.wait():
            raise TrackingError(
                f"MLflow's server has ended, exit code {server.returncode}. Give the command again."
            )
    finally:
        with suppress(ProcessLookupError):  # its workers outlive a server that died
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        signal.signal(signal.SIGTERM, before)


def _latest(url: str) -> tuple[str | None, dict[str, str]]:
    study, experiment = latest_study(url) or (None, "")
    shown = {"trials": trials_page, "front": front_page, "charts": charts_page}
    pages = {name: f"{url}/{page(experiment)}" for name, page in shown.items()}
    return study, {} if study is None else pages


def free_port(port: int | None = None) -> int:
    """Return the port, or the first one that is free.

    Raises:
        TrackingError: It is taken, or all are.
    """
    for candidate in range(FIRST_PORT, LAST_PORT + 1) if port is None else [port]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    taken = f"port {port} is" if port else f"ports {FIRST_PORT} to {LAST_PORT} are"
    raise TrackingError(f"{taken} in use. Give --port another one.")


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise TrackingError(
                f"MLflow's server ended at once, exit code {server.returncode}. {BY_HAND}"
            )
        try:
            with past_proxies(f"{url}/health", 2):
                return
        except OSError:
            time.sleep(0.2)
    raise TrackingError(
        f"MLflow's server did not answer on {url} within {START_SECONDS:g} s. {BY_HAND}"
    )

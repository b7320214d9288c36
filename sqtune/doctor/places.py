"""Where things lie: settings, the store, the study storage, the tracking server, free ports."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from sqtune.doctor.examine import Finding
from sqtune.errors import StoreError, TrackingError
from sqtune.files import folder_of
from sqtune.mlflow_ui import FIRST_PORT, LAST_PORT, free_port
from sqtune.settings import SECRETS, without_password
from sqtune.store import Store

TYPED = "as typed"
RAY_PORTS = {6379: "a Ray head", 8265: "a Ray dashboard"}


def look_at_settings(given: Mapping[str, tuple[str | None, str]]) -> list[Finding]:
    """Say where each setting comes from.

    Args:
        given: Value and origin by setting.
    """
    found = []
    for name, (value, origin) in given.items():
        if value is None:
            continue
        shown, subject = without_password(value), name.replace("_", " ")
        found.append(Finding("setting", "ok", f"{subject}: {shown} ({origin})"))
        if shown != value and origin == TYPED:
            text = f"{subject}: its URL holds a password, which ps and the shell's history show"
            found.append(Finding("setting", "note", text, SECRETS))
    return found


def look_at_store(place: str) -> list[Finding]:
    """Write to the store, or to where it would be made, and lock something there.

    Raises:
        StoreError: That cannot be done.
    """
    store = Store.at(place)
    if store.url is not None:
        store.reach()
        return [Finding("store", "ok", f"{store.url} answers and can be written")]
    there = store.root.exists()
    try:
        with _probe(store.root) as probe:
            lock = _lock_problem(Path(probe))
    except OSError as error:
        raise StoreError(f"{_unwritable(error)}. Give --store another folder.") from error
    if lock is not None:
        text = f"{store.root}: files cannot be locked there: {lock}"
        remedy = "Give --store a folder on another file system, or mount it with locks."
        return [Finding("store", "problem", text, remedy)]
    text = f"{store.root} can be written and locked"
    return [Finding("store", "ok", text if there else f"{text}; it is made by the first search")]


def look_at_study_storage(url: str) -> list[Finding]:
    """Ask the database of studies.

    Raises:
        StoreError: It does not answer.
    """
    from sqtune.search.storage import ask

    return [Finding("study storage", "ok", f"{without_password(url)} answers: {ask(url)}")]


def look_at_tracking(uri: str) -> list[Finding]:
    """Ask the tracking server for its experiments; write to where files would be made.

    Raises:
        TrackingError: It does not answer, or does not let us in, or files cannot be made there.
    """
    from sqtune.tracking.ask import ask
    from sqtune.tracking.database import database_of

    database = database_of(uri)
    if database is not None or (urlsplit(uri).scheme in ("", "file") and uri != "databricks"):
        place = folder_of(uri.removeprefix("file:")) if database is None else database.parent
        try:
            with _probe(place.absolute()):
                return [Finding("tracking", "ok", f"{uri}: files, which MLflow makes")]
        except OSError as error:
            raise TrackingError(
                f"--tracking-uri {uri}: {_unwritable(error)}. Give another one, or leave it out "
                "for the embedded one."
            ) from error

    return [Finding("tracking", "ok", f"{without_password(uri)} answers: {ask(uri)}")]


def look_at_ports() -> list[Finding]:
    """Look for a free port for MLflow's pages, and for who else listens."""
    text = f"{free_port()} is free for sqtune ui ({FIRST_PORT} to {LAST_PORT})"
    for port, what in RAY_PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                text += f"; something listens on {port}, perhaps {what}"
    return [Finding("ports", "ok", text)]


def _probe(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a folder that vanishes, in a folder or in the nearest one above it that there is.

    Raises:
        OSError: Nothing can be written there.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return tempfile.TemporaryDirectory(dir=there, prefix=".sqtune-doctor-")


def _unwritable(error: OSError) -> str:
    return f"{Path(error.filename).parent} cannot be written: {error.strerror}"


def _lock_problem(folder: Path) -> str | None:
    """Return why files in a folder cannot be locked, as one driver per study needs it."""
    try:
        with FileLock(folder / "probe.lock"):
            try:
                FileLock(folder / "probe.lock", is_singleton=False).acquire(timeout=0)
            except Timeout:
                return None
            return "two processes get the same lock"
    except OSError as error:
        return str(error)

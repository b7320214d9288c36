"""The embedded tracking store: MLflow's SQLite database, and where its artifacts lie."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from sqtune.errors import TrackingError
from sqtune.store import Store

SQLITE = "sqlite:///"
LOCK_SECONDS = 30.0  # that a database may be locked by another process
_PLACES = (  # MLflow keeps absolute addresses
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def database_of(uri: str) -> Path | None:
    """Return the file of a tracking URI that names one; None of any other.

    >>> database_of("sqlite:////store/mlflow.db?timeout=30"), database_of("http://host:5000")
    (PosixPath('/store/mlflow.db'), None)
    """
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def create_database(path: Path) -> None:
    """Make MLflow's tables, unless they are there, as a whole or not at all.

    Making them takes seconds, and a driver killed meanwhile would leave a file that MLflow can
    neither use nor mend.

    Raises:
        TrackingError: Something else has its name.
    """
    if path.is_file():
        return
    if path.exists():  # MLflow would try to open it for minutes
        raise TrackingError(f"{path} is no file, and has the name of MLflow's database. Move it.")
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        MlflowClient(tracking_uri=f"{SQLITE}{partial}").search_experiments(max_results=1)
        with closing(sqlite3.connect(partial)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        partial.replace(path)
    finally:
        for file in (partial, *path.parent.glob(f"{partial.name}-*")):  # SQLite's own beside it
            file.unlink(missing_ok=True)


def tracking_uri(store: Store, given: str | None) -> str | None:
    """Return the tracking URI that was given, else the embedded one; None under a URL.

    Raises:
        TrackingError: The store was moved, and its database cannot be told.
    """
    if given:
        return given
    if store.url is not None:
        return None
    follow_move(store.root / "mlflow.db", store.artifacts, store.driven_studies())
    return store.tracking_uri


def follow_move(path: Path, artifacts: Path, driven: Sequence[str] = ()) -> None:
    """Make a database that was moved or copied with its artifacts name their place now.

    Otherwise what is written goes into the folder that there was, and nothing is found that was
    moved. Addresses of other places stay as they are.

    Args:
        path: The database; it may be missing.
        artifacts: Where its artifacts lie now; it may be missing, then none were moved.
        driven: What others are writing there now, by names of their own for the place.

    Raises:
        TrackingError: The database cannot be read or written, or others would lose their place.
    """
    if not (path.is_file() and artifacts.is_dir()):
        return
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database:
            olds = list(_left(database, artifacts))
            if olds and driven:
                raise TrackingError(
                    f"{path} names {olds[0]}, where a search writes ({', '.join(driven)}): it sees "
                    "this store by another path. Use that path, or wait until the search has ended."
                )
            with database:
                for old in olds:
                    _replace(database, old, artifacts.as_uri())
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error) or "no such table" in str(error):
            return  # MLflow says better what is wrong with it
        remedy = "Make it readable and writable."
        if "locked" in str(error):
            remedy = "Another process writes to it: give the same command again."
        raise TrackingError(
            f"{path}: where its artifacts lie cannot be looked up or changed: {error}. {remedy}"
        ) from error


def _left(database: sqlite3.Connection, artifacts: Path) -> Iterator[str]:
    """Yield the addresses of the folders where a database had its artifacts before."""
    rows = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    for (location,) in rows:
        if not str(location).startswith("file:///"):
            continue
        place = Path(url2pathname(urlparse(location).path))
        if place.name != artifacts.name or place == artifacts:
            continue
        if not (place.exists() and place.samefile(artifacts)):
            yield location


def _replace(database: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _PLACES:
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )

"""Leases: one driver per study, where the study lies in a database.

A lease is a row that its holder counts up every few seconds. Whoever wants to drive the same study
watches the count: if it stands still for half a minute, or the holder has died on this very host,
the lease is taken over; no clocks are compared for that. A holder that has not counted for so long
makes sure of the lease before it writes.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from sqtune.errors import StoreError
from sqtune.processes import has_died, this_process

HEARTBEAT_SECONDS = 5.0
VOID_SECONDS = 30.0

_LEASES = Table(
    "sqtune_leases",
    MetaData(),
    Column("study", String(512), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("beats", Integer, nullable=False),
    Column("beat_at", Float, nullable=False),  # by the holder's clock; for those who only look
    Column("stop", Integer, nullable=False),
)


class Lease:
    """The right to drive a study, as long as its holder counts.

    Attributes:
        lost: Whether another driver has taken the study over.
    """

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine, self._study = engine, study
        self._holder = json.dumps(this_process(), sort_keys=True)
        self._ended = threading.Event()
        self._beat_at = 0.0
        self.lost = False
        self._stop = False

    def take(self, say: Callable[[str], None]) -> None:
        """Take the lease, from a driver that has died if need be.

        Raises:
            StoreError: Another process drives the study.
        """
        _make_table(self._engine)
        seen, since, said = None, time.monotonic(), False
        while True:
            row = lease_of(self._engine, self._study)
            if row is None:
                if self._insert():
                    break
                continue
            holder = json.loads(row["holder"])
            if seen is not None and (row["holder"], row["beats"]) != seen:
                raise StoreError(
                    f'the study "{self._study}" is being driven by {_words(holder)}. Wait for it, '
                    "stop it (sqtune stop), or give another --name."
                )
            seen = row["holder"], row["beats"]
            if has_died(holder) or time.monotonic() - since >= VOID_SECONDS:
                if self._replace(row):
                    break
                seen, since = None, time.monotonic()  # somebody was faster
                continue
            if not said:
                said = True
                say(
                    f'the study "{self._study}" was last driven by {_words(holder)}; waiting up to '
                    f"{VOID_SECONDS:g} s for a sign of life"
                )
            time.sleep(min(1.0, HEARTBEAT_SECONDS / 5))
        self._beat_at = _now()
        threading.Thread(target=self._go_on, daemon=True).start()

    def confirm(self) -> None:
        """Make sure that the lease is still ours, before something is written.

        Raises:
            StoreError: Another driver has taken the study over.
            SQLAlchemyError: The database does not answer.
        """
        if _now() - self._beat_at > VOID_SECONDS - HEARTBEAT_SECONDS:  # others may hold it void
            self._beat()
        if self.lost:
            raise StoreError(
                f'the study "{self._study}" has been taken over by another driver, as this one '
                f"gave no sign of life for {VOID_SECONDS:g} s. It goes on there."
            )

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._ended.set()
        with contextlib.suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(delete(_LEASES).where(*self._ours()))

    def is_stop_requested(self, study: str) -> bool:
        """Tell whether `sqtune stop` was typed for this study; known after a heartbeat."""
        return self._stop and study == self._study

    def _ours(self) -> tuple[Any, Any]:
        return _LEASES.c.study == self._study, _LEASES.c.holder == self._holder

    def _values(self) -> dict[str, Any]:
        return {"holder": self._holder, "beats": 0, "beat_at": time.time(), "stop": 0}

    def _insert(self) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_LEASES).values(study=self._study, **self._values()))
        except IntegrityError:
            return False
        return True

    def _replace(self, row: Mapping[str, Any]) -> bool:
        asked = (getattr(_LEASES.c, name) == row[name] for name in ("study", "holder", "beats"))
        with self._engine.begin() as connection:
            statement = update(_LEASES).where(*asked).values(**self._values())
            return connection.execute(statement).rowcount == 1

    def _go_on(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(SQLAlchemyError):
                self._beat()

    def _beat(self) -> None:
        values = {"beats": _LEASES.c.beats + 1, "beat_at": time.time()}
        with self._engine.begin() as connection:
            statement = update(_LEASES).where(*self._ours()).values(**values)
            self.lost = connection.execute(statement).rowcount == 0
            row = connection.execute(select(_LEASES.c.stop).where(*self._ours())).first()
        self._stop = row is not None and bool(row.stop)
        self._beat_at = _now()


def _now() -> float:
    """Return seconds that pass while the machine is suspended too."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _make_table(engine: Engine) -> None:
    try:
        _LEASES.metadata.create_all(engine)
    except SQLAlchemyError:  # another driver made it just now, perhaps
        if not inspect(engine).has_table(_LEASES.name):
            raise


@contextmanager
def leased(engine: Engine | None, study: str, say: Callable[[str], None]) -> Iterator[Lease | None]:
    """Hold the lease of a study for the block; there is none where no database is.

    Raises:
        StoreError: Another process drives it.
    """
    if engine is None:
        yield None
        return
    lease = Lease(engine, study)
    try:
        lease.take(say)
    except SQLAlchemyError as error:
        raise StoreError(
            f"--study-storage: the lease of a study cannot be taken: {str(error).splitlines()[0]}. "
            "Give the URL of a database that answers and may be written."
        ) from error
    try:
        yield lease
    finally:
        lease.release()


def lease_of(engine: Engine, study: str) -> dict[str, Any] | None:
    """Return the row of a study that is being driven, or was when its driver died."""
    with engine.connect() as connection:
        row = connection.execute(select(_LEASES).where(_LEASES.c.study == study)).first()
    return None if row is None else dict(row._mapping)


def seems_driven(engine: Engine, study: str) -> bool:
    """Tell whether a study is being driven, as far as one look tells."""
    if not inspect(engine).has_table(_LEASES.name):
        return False
    row = lease_of(engine, study)
    if row is None:
        return False
    died = has_died(json.loads(row["holder"]))
    return time.time() - row["beat_at"] < VOID_SECONDS if died is None else not died


def request_stop(engine: Engine, study: str) -> None:
    """Ask the driver of a study to end the search after the running epochs."""
    with engine.begin() as connection:
        connection.execute(update(_LEASES).where(_LEASES.c.study == study).values(stop=1))


def _words(holder: Mapping[str, Any]) -> str:
    return f"process {holder['pid']} on {str(holder['host']).partition(':')[0]}"

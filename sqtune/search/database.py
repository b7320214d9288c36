"""A study storage in a database, which waits for a server that is away."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InterfaceError, OperationalError

from sqtune.errors import StoreError
from sqtune.settings import without_password

PATIENCE_SECONDS = 300.0  # for a server that is restarted
HURRIED_SECONDS = 5.0  # the same, once somebody has asked for the end
LONGEST_PAUSE_SECONDS = 10.0
LOOK_SECONDS = 0.2  # in a pause, for whether somebody has
LASTING = (OperationalError, InterfaceError)


SILENT_SECONDS = 3.0  # of an outage before it is told
PSYCOPG = {  # a server that vanished without a word is noticed within half a minute
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class PatientStorage(RDBStorage):
    """Optuna's database storage, which asks again for some minutes while the server is away.

    Attributes:
        guard: Called before every statement that writes; raises where somebody else drives now.
        say: Told of outages.
        hurried: Tells whether somebody has asked for the end, by Ctrl-C say.
    """

    guard: Callable[[], None] | None = None
    say: Callable[[str], None] | None = None
    hurried: Callable[[], bool] = staticmethod(lambda: False)

    def wait(self, seconds: float) -> None:
        """Wait, but not for long where somebody is in a hurry."""
        until = time.monotonic() + seconds
        while True:
            time.sleep(min(seconds, LOOK_SECONDS))
            if self.hurried() or time.monotonic() >= until:
                return


def _patient(method: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def ask(self: PatientStorage, *arguments: Any, **named: Any) -> Any:
        begun, pause = time.monotonic(), 0.25
        asked_before = said = False
        while True:
            try:
                if writes and self.guard is not None:
                    self.guard()
                return method(self, *arguments, **named)
            except UpdateFinishedTrialError:
                if not asked_before:
                    raise
                return False  # the server took it before it went away
            except DuplicatedStudyError:
                if not asked_before:
                    raise
                return self.get_study_id_from_name(named.get("study_name") or arguments[1])
            except (StorageInternalError, *LASTING) as error:
                if not _went_away(error):
                    raise
                waited = time.monotonic() - begun
                if self.say is not None and waited > SILENT_SECONDS and not said:
                    said = True
                    self.say(f"the study storage does not answer ({_reason(error)}); asking again")
                if waited >= (HURRIED_SECONDS if self.hurried() else PATIENCE_SECONDS):
                    raise StoreError(
                        f"--study-storage {without_password(self.url)} has not answered for "
                        f"{waited:.0f} s: {_reason(error)}. Once it does, the same command "
                        "goes on."
                    ) from error
            asked_before = True
            self.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    return ask


def _went_away(error: Exception) -> bool:
    return isinstance(error, LASTING) or isinstance(error.__cause__, LASTING)


READ = (
    *("get_study_id_from_name", "get_study_name_from_id", "get_all_studies", "get_n_trials"),
    *("get_study_directions", "get_study_user_attrs", "get_study_system_attrs", "_get_trials"),
    *("get_trial", "get_all_trials", "get_best_trial", "_get_best_trial_id"),
    *("get_trial_id_from_study_id_trial_number", "get_trial_number_from_id", "get_trial_param"),
    *("get_trial_params", "get_trial_user_attrs", "get_trial_system_attrs"),
)
WRITTEN = (  # those with an underscore are what Optuna's cache in front of a database calls
    *("create_new_study", "set_study_user_attr", "set_study_system_attr"),
    *("create_new_trial", "_create_new_trial", "set_trial_param", "_set_trial_param"),
    *("set_trial_state_values", "set_trial_intermediate_value"),
    *("set_trial_user_attr", "set_trial_system_attr"),
)
for _name in (*READ, *WRITTEN):
    _method = _patient(getattr(RDBStorage, _name), writes=_name in WRITTEN)
    setattr(PatientStorage, _name, _method)


def open_database(url: str) -> PatientStorage:
    """Open a database as a study storage; its tables are made where there are none.

    Args:
        url: SQLAlchemy's. `postgresql://` without a driver takes psycopg.

    Raises:
        SQLAlchemyError, ImportError, ValueError: There is none, or its driver is missing.
    """
    parsed, arguments = _parsed(url)
    kwargs = {"pool_pre_ping": True, "connect_args": arguments}  # one that broke is made anew
    return PatientStorage(parsed.render_as_string(hide_password=False), engine_kwargs=kwargs)


def ask_database(url: str) -> str:
    """Return how many studies a database has, in words; it stays as it is.

    Args:
        url: SQLAlchemy's, as of `open_database`.

    Raises:
        SQLAlchemyError, ImportError, ValueError: There is none, or its driver is missing.
    """
    parsed, arguments = _parsed(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if file and file != ":memory:" and not Path(file).exists():
        return "a file that the first search makes"
    engine = create_engine(parsed, connect_args=arguments)
    try:
        if not inspect(engine).has_table("studies"):
            return "it has no studies yet"
        with engine.connect() as connection:
            number = connection.execute(text("SELECT count(*) FROM studies")).scalar()
        return "1 study" if number == 1 else f"{number:,} studies"
    finally:
        engine.dispose()


def _parsed(url: str) -> tuple[URL, dict[str, Any]]:
    """Return a database's URL with its driver, and what that is to be told."""
    parsed = make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed, PSYCOPG if parsed.drivername == "postgresql+psycopg" else {}


def _reason(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

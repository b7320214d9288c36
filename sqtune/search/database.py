"""A study storage in a database, which waits for a server that is away."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError

from sqtune.errors import StoreError
from sqtune.settings import without_password

PATIENCE_SECONDS = 300.0  # for a server that is restarted
LONGEST_PAUSE_SECONDS = 10.0
LASTING = (OperationalError, InterfaceError)


class PatientStorage(RDBStorage):
    """Optuna's database storage, which asks again for some minutes while the server is away."""


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def ask(self: PatientStorage, *arguments: Any, **named: Any) -> Any:
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.25
        asked_before = False
        while True:
            try:
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
                if time.monotonic() >= deadline:
                    raise StoreError(
                        f"--study-storage {without_password(self.url)} has not answered for "
                        f"{PATIENCE_SECONDS:g} s: {_reason(error)}. Once it does, the same command "
                        "goes on."
                    ) from error
            asked_before = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    return ask


def _went_away(error: Exception) -> bool:
    return isinstance(error, LASTING) or isinstance(error.__cause__, LASTING)


for _name in (
    *("create_new_study", "get_study_id_from_name", "get_study_name_from_id", "get_all_studies"),
    *("get_study_directions", "get_study_user_attrs", "get_study_system_attrs"),
    *("set_study_user_attr", "set_study_system_attr"),
    *("create_new_trial", "set_trial_param", "set_trial_state_values"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr"),
    *("get_trial", "get_all_trials", "get_n_trials", "get_best_trial"),
    *("get_trial_id_from_study_id_trial_number", "_get_trials"),
):
    setattr(PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


def open_database(url: str) -> PatientStorage:
    """Open a database as a study storage; its tables are made where there are none.

    Args:
        url: SQLAlchemy's. `postgresql://` without a driver takes psycopg.

    Raises:
        SQLAlchemyError, ImportError, ValueError: There is none, or its driver is missing.
    """
    parsed = make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    kwargs = {"pool_pre_ping": True}  # a connection that broke in the pool is made anew
    return PatientStorage(parsed.render_as_string(hide_password=False), engine_kwargs=kwargs)


def _reason(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

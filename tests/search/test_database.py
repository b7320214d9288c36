"""A study in a database survives that its server goes away for a while."""

from __future__ import annotations

import sqlite3
import time

import optuna
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from sqtune.errors import StoreError
from sqtune.search import database
from sqtune.search.database import open_database
from sqtune.search.storage import open_named

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "LONGEST_PAUSE_SECONDS", 0.01)
    found = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    yield found
    found.remove_session()
    found.engine.dispose()


class Outage:
    """Refuses the next statements of an engine, or the next that begin with certain words."""

    def __init__(self, engine) -> None:
        self.left, self.refused, self.words = 0, 0, ""
        event.listen(engine, "before_cursor_execute", self._refuse)

    def _refuse(self, connection, cursor, statement, *rest) -> None:
        if self.left and statement.startswith(self.words):
            self.left, self.refused = self.left - 1, self.refused + 1
            raise OperationalError(statement, {}, sqlite3.OperationalError("server closed"))


def test_everything_that_a_study_does_goes_on_after_an_outage(storage):
    outage = Outage(storage.engine)
    outage.left = 2
    study = optuna.create_study(storage=storage, study_name="study")
    for number in range(3):
        outage.left = 3
        trial = study.ask()
        outage.left = 3
        trial.suggest_float("lr", 0, 1)
        outage.left = 3
        trial.set_user_attr("key", "value")
        outage.left = 3
        study.tell(trial, float(number))
    outage.left = 2
    trials = study.get_trials(deepcopy=False)
    assert outage.refused >= 35
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.value for trial in trials] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "words", ["INSERT INTO trials", "INSERT INTO trial_params", "INSERT INTO trial_user", "UPDATE"]
)
def test_no_statement_of_a_trial_is_in_vain(storage, words):
    study = optuna.create_study(storage=storage, study_name="study")
    outage = Outage(storage.engine)
    outage.words, outage.left = words, 7  # Optuna itself asks five times for a new trial
    trial = study.ask()
    trial.suggest_float("lr", 0, 1)
    trial.set_user_attr("key", "value")
    study.tell(trial, 1.0)
    assert outage.refused == 7
    assert [(each.number, each.value) for each in study.trials] == [(0, 1.0)]


def test_whoever_has_lost_the_study_writes_nothing_more(storage):
    study = optuna.create_study(storage=storage, study_name="study")
    trial = study.ask()

    def taken() -> None:
        raise StoreError("taken over")

    storage.guard = taken
    with pytest.raises(StoreError, match="taken over"):
        study.tell(trial, 1.0)
    storage.guard = None
    assert study.trials[0].value is None


def test_a_trial_whose_end_the_server_took_before_it_went_away_is_not_told_twice(storage):
    study = optuna.create_study(storage=storage, study_name="study")
    trial = study.ask()
    went = []

    @event.listens_for(storage.engine, "commit")
    def committed(connection) -> None:
        if not went and study_ends:
            went.append(True)
            connection.connection.dbapi_connection.commit()
            raise OperationalError("commit", {}, sqlite3.OperationalError("server closed"))

    study_ends = True
    study.tell(trial, 1.0)
    assert went
    assert study.trials[0].value == 1.0


def test_a_server_that_stays_away_ends_the_search_with_its_name(storage, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.05)
    study = optuna.create_study(storage=storage, study_name="study")
    Outage(storage.engine).left = 10**6
    with pytest.raises(StoreError, match=r"studies\.db has not answered .* the same command"):
        study.ask()


def test_whoever_asks_for_the_end_does_not_wait_for_the_server(storage, monkeypatch):
    monkeypatch.setattr(database, "HURRIED_SECONDS", 0.05)
    monkeypatch.setattr(database, "LONGEST_PAUSE_SECONDS", 60.0)
    study = optuna.create_study(storage=storage, study_name="study")
    Outage(storage.engine).left = 10**6
    begun = time.monotonic()
    storage.hurried = lambda: time.monotonic() - begun > 1.0  # Ctrl-C, in the second pause or so
    with pytest.raises(StoreError, match=r"studies\.db has not answered for \d s"):
        study.ask()
    assert 1.0 < time.monotonic() - begun < 10


def test_a_mistake_is_no_outage(storage):
    optuna.create_study(storage=storage, study_name="study")
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=storage, study_name="study")


def test_a_password_is_in_no_message():
    with pytest.raises(StoreError) as caught:
        open_named("postgresql://me:hidden@127.0.0.1:1/studies")
    assert "hidden" not in str(caught.value)
    assert "postgresql://me:***@127.0.0.1:1/studies" in str(caught.value)

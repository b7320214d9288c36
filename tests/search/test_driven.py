"""A driver's memory of what it wrote to a database is what the database holds."""

from __future__ import annotations

from collections import Counter

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from sqtune.search.database import open_database
from sqtune.search.study import Study
from sqtune.search.view import StudyView

from .studies import asked, finish, space_of

SPACE = """
name: driven
trial: {num_epochs: 2}
space:
  quantizer.name: {choice: [binary, ternary, uniform]}
  quantizer.bits: {choice: [2, 3], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.01, 0.3], log: true}
points: [{quantizer.name: binary, optimizer.lr: 0.1}]
search: {num_trials: 100, sampler: tpe}
"""


@pytest.fixture
def place(tmp_path):
    return f"sqlite:///{tmp_path / 'studies.db'}"


@pytest.fixture
def space(tmp_path):
    return space_of(tmp_path, SPACE)


def rows(trials: list[FrozenTrial]) -> list[dict[str, object]]:
    """Return all there is of trials; of times, which clocks of both sides give, whether."""
    return [
        {
            name.strip("_"): value is not None if "datetime" in name else value
            for name, value in vars(trial).items()
        }
        for trial in trials
    ]


def test_a_run_that_mlflow_opens_after_its_trial_has_ended_is_known(place, space):
    study = Study.create_or_continue(open_database(place), space, {})
    first, second = asked(study), asked(study)
    finish(study, first, 0.3)
    assert study.trial(first.number).run_id is None
    study.set_run_id(first.number, "late")
    study.set_run_id(second.number, "early")
    study.set_test_error(first.number, 0.25, 449)
    finish(study, second, 0.2)
    for seen in (study, StudyView.load(open_database(place), "driven")):
        assert [trial.run_id for trial in seen.trials()] == ["late", "early"]
        assert [trial.test_error for trial in seen.trials()] == [0.25, None]


def test_the_memory_is_what_another_process_reads(place, space):
    study = Study.create_or_continue(open_database(place), space, {})

    def check() -> list[FrozenTrial]:
        held = study._study.get_trials(deepcopy=False)
        stored = optuna.load_study(study_name="driven", storage=open_database(place)).trials
        assert rows(held) == rows(stored)
        return held

    first, second, third, fourth = (asked(study) for _ in range(4))
    check()
    finish(study, first, 0.3)
    check()
    study.report(second.number, 1, {"train_loss": 1.0, "val_error": 0.4})
    study.pause(second.number, 1)
    study.set_run_id(second.number, "run")
    study.fail(third.number, "a reason")
    study.report(fourth.number, 1, {"train_loss": 1.0})
    check()
    study.resume(second.number)
    study.stop(second.number, 1, "worse")
    assert study.release_unfinished() == [fourth.number]
    held = check()
    assert [trial.state for trial in held] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.WAITING,
    ]
    assert asked(study).number == fourth.number
    again = Study.create_or_continue(open_database(place), space, {})
    assert again.trial(first.number) == study.trial(first.number)


def test_who_holds_a_trial_as_it_was_keeps_it(place, space):
    study = Study.create_or_continue(open_database(place), space, {})
    number = asked(study).number
    held = study._study.get_trials(deepcopy=False)[number]
    before = rows([held])
    study.report(number, 1, {"train_loss": 1.0, "val_error": 0.4})
    assert rows([held]) == before
    assert rows(study._study.get_trials(deepcopy=False)) != before


def test_a_proposal_asks_no_more_of_the_database_the_more_trials_run(place, space):
    storage = open_database(place)
    study, statements = Study.create_or_continue(storage, space, {}), Counter[str]()

    @event.listens_for(storage.engine, "before_cursor_execute")
    def _count(connection, cursor, statement, *rest) -> None:
        statements[statement.split()[0]] += 1

    def cost() -> int:
        statements.clear()
        trial = asked(study)
        read = statements["SELECT"]
        for epoch in range(1, 3):
            study.report(trial.number, epoch, {"train_loss": 1.0, "val_error": 0.4})
        return read

    reads = [cost() for _ in range(30)]
    assert max(reads[-5:]) <= max(reads[:5])
    assert max(reads) <= 20

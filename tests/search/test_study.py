"""The study on its storage: what is asked, reported and told survives whatever opens it again."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sqtune.config import load_space
from sqtune.config.space import SearchSpace
from sqtune.errors import StoreError, StudyError
from sqtune.search.records import TrialRecord
from sqtune.search.storage import open_storage, study_names
from sqtune.search.study import Study
from sqtune.store import Store

SPACE = """\
trial:
  data: {name: digits}
  network: {name: resnet8, width: 4}
  schedule: {name: linear}
  batch_size: 128
  num_epochs: 20
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3, 4], when: {quantizer.name: uniform}}
  optimizer.lr: {choice: [0.05, 0.1, 1.0e+30]}
search: {num_trials: 5, sampler: random, seed: 9}
resources: {cpus: 1}
"""
NUM_TRIALS, NUM_EPOCHS, FAILING_LR = 5, 20, 1e30
START_SECONDS, GONE_SECONDS = 120.0, 30.0


def write_space(folder: Path, text: str = SPACE) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


SPACE = """\
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 4
space:
  quantizer.name: {choice: [binary, ternary, uniform]}
  quantizer.bits: {int: [2, 4], when: {quantizer.name: uniform}}
  quantizer.threshold: {choice: [layer, row], when: {quantizer.name: ternary}}
  schedule: {choice: [{name: linear}, {name: average, num_stages: 3}]}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 5, sampler: random, seed: 3}
"""
FACTS = {"size_bytes": 5000, "num_validation": 449}

Reopen = Callable[..., Study]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(tmp_path / "store")
    store.create()
    return store


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return load_space(write_space(tmp_path, SPACE))


@pytest.fixture(params=["journal", "sqlite"])
def reopen(
    request: pytest.FixtureRequest, store: Store, space: SearchSpace
) -> Iterator[Callable[[], Study]]:
    """Open the study as a new driver does."""
    url = None if request.param == "journal" else f"sqlite:///{store.root / 'optuna.db'}"
    opened: list[Any] = []

    def open_it() -> Study:
        storage = open_storage(store, url, mend=True)
        opened.append(storage)
        return Study.create_or_continue(storage, space, {"git": "abc"})

    yield open_it
    for storage in opened:
        storage.remove_session()
        if url is not None:
            storage.engine.dispose()


def metrics(val_error: float) -> dict[str, float]:
    return {"train_loss": 2.0, "val_error": val_error, "ratio": 1.0}


def train(study: Study, trial: TrialRecord, val_error: float = 0.5) -> None:
    for epoch in (1, 2):
        study.report(trial.number, epoch, metrics(val_error + 0.1 * (2 - epoch)))
    study.finish(trial.number, val_error, FACTS)


def stored_states(study: Study) -> list[TrialState]:
    return [trial.state for trial in study._study.get_trials(deepcopy=False)]


def test_a_trial_from_ask_to_finish(reopen: Reopen) -> None:
    study = reopen()
    trial = study.ask()
    assert (trial.number, trial.state, trial.epochs, trial.val_error) == (0, "running", (), None)
    assert stored_states(study) == [TrialState.RUNNING]
    train(study, trial, 0.25)
    study.set_test_error(0, 0.3, 449)

    (read,) = reopen().trials()
    assert (read.state, read.val_error, read.test_error) == ("finished", 0.25, 0.3)
    assert read.facts == {**FACTS, "num_test": 449}
    assert (read.values, read.config) == (trial.values, trial.config)
    assert [epoch["val_error"] for epoch in read.epochs] == [0.35, 0.25]
    assert all(epoch["time"] > 0 for epoch in read.epochs)
    assert stored_states(reopen()) == [TrialState.COMPLETE]


def test_a_failed_trial_keeps_its_reason_and_is_not_asked_for_again(reopen: Reopen) -> None:
    study = reopen()
    study.report(study.ask().number, 1, metrics(0.9))
    study.fail(0, "the loss is nan")
    study = reopen()
    assert stored_states(study) == [TrialState.FAIL]
    (trial,) = study.trials()
    assert (trial.state, trial.failure, trial.val_error) == ("failed", "the loss is nan", None)
    assert study.ask().number == 1


def test_an_interrupted_trial_comes_back_first_as_it_was(reopen: Reopen) -> None:
    study = reopen()
    first, second, third = study.ask(), study.ask(), study.ask()
    train(study, second)
    study.report(first.number, 1, metrics(0.8))
    study.set_run_id(first.number, "run-of-the-first")

    study = reopen()
    assert stored_states(study) == [TrialState.WAITING, TrialState.COMPLETE, TrialState.WAITING]
    assert [trial.state for trial in study.trials()] == ["interrupted", "finished", "interrupted"]
    for wanted in (first, third):
        again = study.ask()
        assert (again.number, again.state) == (wanted.number, "running")
        assert (again.values, again.config) == (wanted.values, wanted.config)
    assert study.trial(0).run_id == "run-of-the-first"
    assert study.ask().number == 3
    assert len(study.trials()) == 4


def test_an_epoch_trained_again_keeps_its_first_time(reopen: Reopen) -> None:
    study = reopen()
    study.ask()
    before = study.report(0, 1, metrics(0.8))
    study = reopen()
    study.ask()
    assert study.report(0, 1, metrics(0.8)) == before
    other = study.report(0, 2, metrics(0.7))
    assert study.trial(0).epochs == (before, other)


def test_proposals_do_not_depend_on_when_the_study_was_reopened(
    reopen: Reopen, tmp_path: Path, space: SearchSpace
) -> None:
    other = Store.at(tmp_path / "other")
    other.create()
    whole = Study.create_or_continue(open_storage(other, None), space, {})
    wanted = [whole.ask().values for _ in range(6)]
    assert len({str(values) for values in wanted}) == 6

    values = []
    for _ in range(6):
        study = reopen()
        trial = study.ask()
        values.append(trial.values)
        train(study, trial)
    assert values == wanted


def test_tpe_proposals_do_not_depend_on_when_the_study_was_reopened(
    tmp_path: Path, space: SearchSpace
) -> None:
    tpe = space.model_copy(update={"search": space.search.model_copy(update={"sampler": "tpe"})})

    def proposals(name: str, *, reopened: bool) -> list[dict[str, Any]]:
        store = Store.at(tmp_path / name)
        store.create()
        study = Study.create_or_continue(open_storage(store, None), tpe, {})
        values = []
        for number in range(14):  # past TPE's ten random ones
            if reopened:
                study = Study.create_or_continue(open_storage(store, None), tpe, {})
            trial = study.ask()
            values.append(trial.values)
            train(study, trial, 0.1 + 0.05 * (number % 7))
        return values

    assert proposals("whole", reopened=False) == proposals("reopened", reopened=True)


def test_conditional_parameters_stand_only_where_they_hold(reopen: Reopen) -> None:
    study = reopen()
    seen = set()
    for _ in range(20):
        trial = study.ask()
        name = trial.values["quantizer.name"]
        seen.add(name)
        assert ("quantizer.bits" in trial.values) == (name == "uniform")
        assert ("quantizer.threshold" in trial.values) == (name == "ternary")
        quantizer = trial.config.nested()["quantizer"]
        assert quantizer["name"] == name
        if name == "uniform":
            assert quantizer["bits"] == trial.values["quantizer.bits"] in {2, 3, 4}
        assert trial.config.schedule.name == trial.values["schedule"].split()[0]
        assert 0.02 <= trial.config.optimizer.lr <= 0.3
    assert seen == {"binary", "ternary", "uniform"}


@pytest.mark.parametrize("partial", [b"{", b'{"op_code":8,"worker_id":"abc', b"\xff\x00"])
def test_a_half_written_line_is_cut_off_and_nothing_else(
    store: Store, space: SearchSpace, partial: bytes
) -> None:
    study = Study.create_or_continue(open_storage(store, None), space, {})
    train(study, study.ask())
    study.report(study.ask().number, 1, metrics(0.7))
    before, whole = study.trials(), store.journal.read_bytes()
    with store.journal.open("ab") as journal:
        journal.write(partial)

    storage = open_storage(store, None, mend=True)
    assert store.journal.read_bytes() == whole
    assert Study.load(storage, None).trials() == before
    study = Study.create_or_continue(storage, space, {})
    assert study.ask().number == 1
    assert study.ask().number == 2


def test_a_last_line_cut_anywhere_loses_only_itself(store: Store, space: SearchSpace) -> None:
    study = Study.create_or_continue(open_storage(store, None), space, {})
    train(study, study.ask())
    study.ask()
    before = study.trials()
    whole = store.journal.read_bytes()
    study.report(1, 1, metrics(0.7))
    added = store.journal.read_bytes()[len(whole) :].splitlines(keepends=True)[0]
    for kept in (1, len(added) // 2, len(added) - 1):
        store.journal.write_bytes(whole + added[:kept])
        storage = open_storage(store, None, mend=True)
        assert store.journal.read_bytes() == whole
        assert Study.load(storage, space.name).trials() == before


def test_a_half_written_line_does_not_spoil_what_another_study_writes_next(
    store: Store, space: SearchSpace
) -> None:
    killed = Study.create_or_continue(open_storage(store, None), space, {})
    other_space = space.model_copy(update={"name": "other"})
    other = Study.create_or_continue(open_storage(store, None), other_space, {})
    killed.ask()
    with store.journal.open("ab") as journal:  # its last words
        journal.write(b'{"op_code":8,"worker_id":"abc')
    train(other, other.ask())
    storage = open_storage(store, None, mend=True)
    assert [trial.state for trial in Study.load(storage, "other").trials()] == ["finished"]
    assert len(Study.load(storage, space.name).trials()) == 1


def test_a_full_disk_under_the_journal_leaves_whole_lines(store: Store, space: SearchSpace) -> None:
    study = Study.create_or_continue(open_storage(store, None), space, {})
    trial, whole = study.ask(), store.journal.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"too large. Make room"):
            study.report(trial.number, 1, metrics(0.7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.journal.read_bytes() == whole
    again = Study.create_or_continue(open_storage(store, None), space, {})
    train(again, again.ask())
    assert [trial.state for trial in again.trials()] == ["finished"]


@pytest.mark.parametrize(
    ("line", "junk"),
    [
        (3, b"{}\n"),
        (3, b'{"op_code":1,,}\n'),
        (3, b'{"op_code":1,"wor\n'),
        (3, b"\0" * 512 + b"\n"),
        (None, b"junk\n"),
    ],
)
def test_a_damaged_line_is_named_and_what_the_message_says_keeps_those_before_it(
    store: Store, space: SearchSpace, line: int | None, junk: bytes
) -> None:
    study = Study.create_or_continue(open_storage(store, None), space, {})
    study.ask()
    lines = store.journal.read_bytes().splitlines(keepends=True)
    at = len(lines) if line is None else line
    store.journal.write_bytes(b"".join([*lines[:at], junk, *lines[at:]]))
    for mend in (False, True):
        with pytest.raises(
            StoreError, match=rf"line {at + 1} is damaged.* {at} lines: cp"
        ) as error:
            open_storage(store, None, mend=mend)
    subprocess.run(["sh", "-c", str(error.value).partition("lines: ")[2]], check=True)
    assert store.journal.read_bytes() == b"".join(lines[:at])
    assert junk in store.journal.with_name("studies.journal.damaged").read_bytes()
    names = study_names(open_storage(store, None))
    assert names == ([space.name] if line is None else [])


@pytest.mark.parametrize("content", [b"hello\n", b"hello", b"\0" * 64])
def test_a_file_that_is_no_journal_is_not_taken_for_an_empty_one(
    store: Store, content: bytes
) -> None:
    store.journal.write_bytes(content)
    with pytest.raises(StoreError, match="line 1 is damaged"):
        open_storage(store, None, mend=True)
    assert store.journal.read_bytes() == content


def test_a_whole_journal_is_not_touched(store: Store, space: SearchSpace) -> None:
    study = Study.create_or_continue(open_storage(store, None), space, {})
    train(study, study.ask())
    whole = store.journal.read_bytes()
    open_storage(store, None, mend=True)
    assert store.journal.read_bytes() == whole


def test_a_changed_space_is_refused_with_what_differs(reopen: Reopen, space: SearchSpace) -> None:
    study = reopen()
    trial = {**space.trial, "num_epochs": 9}
    changed = space.model_copy(
        update={"trial": trial, "search": space.search.model_copy(update={"seed": 4})}
    )
    with pytest.raises(StudyError, match="another space") as refusal:
        study.refuse_changes(changed)
    message = str(refusal.value)
    assert "trial.num_epochs: 4 -> 9" in message
    assert "search.seed: 3 -> 4" in message
    assert "--name" in message
    assert "optimizer.lr" not in message

    without = {path: item for path, item in space.space.items() if path != "optimizer.lr"}
    with pytest.raises(StudyError, match=r"optimizer\.lr\S*: .* -> \(not there\)"):
        study.refuse_changes(space.model_copy(update={"space": without}))


def test_a_changed_space_leaves_the_study_as_it_was(store: Store, space: SearchSpace) -> None:
    study = Study.create_or_continue(open_storage(store, None), space, {})
    study.ask()
    before = store.journal.read_bytes()
    changed = space.model_copy(update={"trial": {**space.trial, "num_epochs": 9}})
    with pytest.raises(StudyError, match="num_epochs"):
        Study.create_or_continue(open_storage(store, None), changed, {})
    assert store.journal.read_bytes() == before


def test_number_of_trials_concurrency_and_limits_may_change(
    store: Store, space: SearchSpace
) -> None:
    Study.create_or_continue(open_storage(store, None), space, {})
    options = {"num_trials": 50, "max_concurrent": 1, "time_limit_seconds": 9.0}
    more = space.model_copy(update={"search": space.search.model_copy(update=options)})
    study = Study.create_or_continue(open_storage(store, None), more, {})
    assert study.space.search.num_trials == 50
    assert Study.load(open_storage(store, None), None).space.search.num_trials == 50


def test_names_and_what_load_takes(store: Store, space: SearchSpace) -> None:
    storage = open_storage(store, None)
    with pytest.raises(StudyError, match="no study here yet"):
        Study.load(storage, None)
    for name in ("first", "second"):
        Study.create_or_continue(storage, space.model_copy(update={"name": name}), {})
    assert study_names(storage) == ["first", "second"]
    assert Study.load(storage, None).name == "second"
    Study.create_or_continue(storage, space.model_copy(update={"name": "first"}), {})
    assert Study.load(storage, None).name == "first"
    with pytest.raises(StudyError, match='Did you mean "second"'):
        Study.load(storage, "secnd")


def test_a_storage_that_cannot_be_opened_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match="--study-storage nonsense://x"):
        open_storage(store, "nonsense://x")


def test_the_journal_is_optunas_own(store: Store, space: SearchSpace) -> None:
    """Optuna's other tools read the study."""
    study = Study.create_or_continue(open_storage(store, None), space, {})
    train(study, study.ask(), 0.25)
    backend = optuna.storages.journal.JournalFileBackend(str(store.journal))
    read = optuna.load_study(study_name=space.name, storage=optuna.storages.JournalStorage(backend))
    assert read.best_value == 0.25
    assert read.best_trial.intermediate_values == {1: 0.35, 2: 0.25}

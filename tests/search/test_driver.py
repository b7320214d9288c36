"""What the driver decides, with a real study and a real stage store; only workers are simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from rich.console import Console

from sqtune.config import TrialConfig, load_space
from sqtune.search.courses import Courses
from sqtune.search.driver import Driver
from sqtune.search.limits import Limits
from sqtune.search.mishaps import MAX_WORKER_DEATHS, Death
from sqtune.search.prepare import footprints, prepare_data, stage_store
from sqtune.search.progress import Progress
from sqtune.search.run import _wrap_up
from sqtune.search.storage import open_storage
from sqtune.search.study import Study
from sqtune.search.worker import Assignment
from sqtune.store import Store

SPACE = """
trial:
  network: {name: resnet8, width: 4}
  num_epochs: 8
  schedule: {name: stages, ratios: [0, 1], starts: [0, 0.5]}
space:
  optimizer.lr: {choice: [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]}
  quantizer.name: {choice: [binary, ternary]}
search: {num_trials: 8, sampler: grid}
"""


@dataclass
class Recorder:
    """A tracker that remembers how runs ended."""

    ended: dict[int, str] = field(default_factory=dict)
    new_run_ids: SimpleQueue[tuple[int, str]] = field(default_factory=SimpleQueue)

    def start_trial(self, number: int, params: Any) -> None: ...

    def log_epoch(self, number: int, record: Any) -> None:
        assert not record.keys() & {"seconds", "restored"}

    def end_trial(self, number: int, status: str, **rest: Any) -> None:
        self.ended[number] = status


@dataclass
class Search:
    """A driver with all that it needs."""

    driver: Driver
    study: Study
    courses: Courses
    tracker: Recorder
    limits: Limits


class Leg:
    """A worker's part of a trial: takes up what is stored, then trains epoch by epoch."""

    def __init__(self, search: Search, assignment: Assignment, trained: list[tuple[int, int]]):
        self.search, self.assignment, self.trained = search, assignment, trained
        self.config = TrialConfig.model_validate_json(assignment.config)
        self.course, self.stages = search.courses.course(self.config), search.courses._stages
        self.stored, self.epoch = self.stages.longest(self.course.keys), 0

    def advance(self) -> bool:
        """Report on; tell whether the leg has ended."""
        epochs = [self._next()]
        while self.epoch < self.stored and self.epoch not in self.assignment.rungs:
            epochs.append(self._next())
        report: dict[str, Any] = {"number": self.assignment.number, "epochs": epochs}
        if self.epoch == self.config.num_epochs:
            report["facts"] = {"num_validation": 100, "node": "here"}
        return self.search.driver.on_report(report)

    def _next(self) -> dict[str, float]:
        self.epoch += 1
        if self.epoch <= self.stored:
            return {**measured(self.config, self.epoch), "restored": 1.0}
        self.trained.append((self.assignment.number, self.epoch))
        if self.epoch in self.course.stops:
            self.stages.put(self.course.keys[self.epoch - 1], b"a checkpoint")
        return measured(self.config, self.epoch)


def measured(config: TrialConfig, epoch: int) -> dict[str, float]:
    """Return an epoch's results: the lower the learning rate, the better, from the first epoch."""
    error = config.optimizer.lr + (0.001 if config.quantizer.name == "binary" else 0) + 1 / epoch
    quantized = 2 * epoch > config.num_epochs
    return {
        "epoch": epoch,
        "seconds": 1.0,
        "train_loss": error,
        "val_error_hybrid": error,
        "ratio": float(quantized),
        **({"val_error": error} if quantized else {}),
    }


def run(search: Search, num_slots: int, most_steps: int = 10_000) -> list[tuple[int, int]]:
    """Let simulated slots work, an epoch each in turn; return (trial, epoch) as trained."""
    trained: list[tuple[int, int]] = []
    legs: list[Leg] = []
    for _ in range(most_steps):
        while len(legs) < num_slots:
            assignment = search.driver.next_trial()
            if not isinstance(assignment, Assignment):
                break
            legs.append(Leg(search, assignment, trained))
        if not legs:
            assert assignment == "end"
            break
        legs = [leg for leg in legs if not leg.advance()]
    return trained


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Search]:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    store = Store.at(tmp_path / "store")
    store.create()

    def open_search(*changes: str, stop: Callable[[], bool] = lambda: False) -> Search:
        space = load_space(path, changes)
        for file, splits in prepare_data(space, store).items():
            from sqtune.data.split import write_prepared

            write_prepared(splits, file)
        study = Study.create_or_continue(
            open_storage(store, None, mend=True), space, {}, footprint=footprints(space, store)
        )
        tracker, limits = Recorder(), Limits(space.search, 0.0, 0.0, stop)
        courses = Courses(space, store, stage_store(space, store), study.attrs["uuid"])
        progress = Progress(Console(quiet=True))
        driver = Driver(study, tracker, progress, store, limits, courses, num_slots=2)  # type: ignore[arg-type]
        return Search(driver, study, courses, tracker, limits)

    return open_search


def states(search: Search) -> dict[int, str]:
    return {trial.number: trial.state for trial in search.study.trials()}


def test_every_shared_stage_is_trained_once_and_by_one_trial(begin) -> None:
    search = begin()
    trained = run(search, 2)
    assert set(states(search).values()) == {"finished"}
    assert search.driver.ending() == "complete"
    warmups = {trial.number: trial.config.optimizer.lr for trial in search.study.trials()}
    float_epochs = [(warmups[number], epoch) for number, epoch in trained if epoch <= 4]
    assert len(float_epochs) == len(set(float_epochs)) == 4 * len(set(warmups.values()))
    assert len(trained) == 4 * 8 + 4 * len(set(warmups.values()))
    assert sum(trial.epochs_trained for trial in search.study.trials()) == len(trained)
    assert sum(trial.epochs_shared for trial in search.study.trials()) == 8 * 8 - len(trained)
    assert set(search.tracker.ended.values()) == {"FINISHED"}


def test_a_trial_that_needs_what_another_trains_waits_and_others_come_first(begin) -> None:
    search = begin()
    first, second = search.driver.next_trial(), search.driver.next_trial()
    assert isinstance(first, Assignment)
    assert isinstance(second, Assignment)
    lrs = [TrialConfig.model_validate_json(each.config).optimizer.lr for each in (first, second)]
    assert lrs[0] != lrs[1]  # the grid has both quantizers of a learning rate next to each other


def test_the_stage_store_is_not_asked_for_whoever_waits_as_long_as_another_trains(begin) -> None:
    search = begin("trial.optimizer.lr=0.1", "search.num_trials=2")
    asked: list[object] = []
    longest = search.courses._stages.longest
    search.courses._stages.longest = lambda keys, **rest: asked.append(keys) or longest(keys)  # type: ignore[method-assign]
    first = search.driver.next_trial()
    assert isinstance(first, Assignment)
    leg = Leg(search, first, [])
    asked.clear()
    for _ in range(3):
        assert search.driver.next_trial() == "wait"
        assert not leg.advance()
    assert len(asked) == 1  # as it was put aside
    assert not leg.advance()
    assert isinstance(search.driver.next_trial(), Assignment)


STOP = ("search.early_stopping={name: stop, rungs: [0.75], keep: 0.25, min_trials: 4}",)
PAUSE = ("search.early_stopping={name: pause, rungs: [0.75], keep: 0.25, min_trials: 4}",)


def test_stop_ends_the_worse_part_as_pruned_with_its_epochs(begin) -> None:
    search = begin(*STOP, "search.num_trials=16")
    run(search, 2)
    found = states(search)
    assert set(found.values()) == {"finished", "stopped"}
    stopped = [trial for trial in search.study.trials() if trial.state == "stopped"]
    assert {len(trial.epochs) for trial in stopped} == {6}
    assert all(trial.val_error is None for trial in stopped)
    pruned = search.study._study.get_trials()[stopped[0].number]
    assert pruned.state.name == "PRUNED"
    assert pruned.intermediate_values[6] == stopped[0].epochs[-1]["val_error"]
    assert search.tracker.ended[stopped[0].number] == "KILLED"
    best = min(search.study.trials(), key=lambda trial: trial.epochs[-1]["val_error"])
    assert best.state == "finished"


def test_pause_holds_trials_and_promotes_them_once_others_are_worse(begin) -> None:
    search = begin(
        *PAUSE,
        "search.num_trials=16",
        "space.optimizer.lr={choice: [.08, .07, .06, .05, .04, .03, .02, .01]}",
    )
    trained = run(search, 2)
    assert search.driver.ending() == "complete"
    finished = {number for number, state in states(search).items() if state == "finished"}
    paused = {number for number, state in states(search).items() if state == "paused"}
    assert paused
    assert finished | paused == set(range(16))
    assert len(trained) == len(set(trained))  # nobody trains an epoch twice, promoted or not
    errors = {t.number: t.epochs[5]["val_error_hybrid"] for t in search.study.trials()}
    best = sorted(errors, key=errors.__getitem__)[:4]
    assert set(best) <= finished  # whoever is among the best quarter in the end has gone on
    assert sorted(search.study.close_paused()) == sorted(paused)
    assert set(states(search).values()) == {"finished", "stopped"}


def test_a_killed_driver_keeps_rungs_and_paused_trials(begin) -> None:
    undisturbed = begin(*PAUSE, "search.num_trials=16")
    run(undisturbed, 1)
    expected = states(undisturbed)
    for steps in range(3, 90, 9):
        first = begin(*PAUSE, "search.num_trials=16", f"name=killed-{steps}")
        run(first, 1, most_steps=steps)
        second = begin(*PAUSE, "search.num_trials=16", f"name=killed-{steps}")
        run(second, 1)
        assert states(second) == expected, steps


def test_a_request_to_stop_leaves_running_trials_where_they_are(begin) -> None:
    asked: list[bool] = []
    search = begin(stop=lambda: bool(asked))
    run(search, 2, most_steps=3)
    asked.append(True)
    run(search, 2)
    assert search.driver.ending() == "stopped"
    assert sorted(search.study.release_unfinished()) == [0, 1, 2]  # 1 waits for 0
    again = begin()
    run(again, 2)
    assert set(states(again).values()) == {"finished"}


class LateRecorder(Recorder):
    """A tracker whose server answers at the very end: runs are opened as it is closed."""

    front_page = error = None

    def tag_front(self, numbers: Any) -> None: ...

    def describe(self, text: str) -> None: ...

    def end_study(self, status: str, metrics: Any) -> None: ...

    def close(self) -> None:
        for number in self.ended:
            self.new_run_ids.put((number, f"run {number}"))


def test_runs_that_mlflow_opens_as_the_search_ends_are_known(begin) -> None:
    asked: list[bool] = []
    search = begin(stop=lambda: bool(asked))
    search.driver.tracker = LateRecorder()  # type: ignore[assignment]
    run(search, 2, most_steps=20)
    asked.append(True)
    run(search, 2)
    _wrap_up(search.driver, None, None)
    finished = [trial for trial in search.study.trials() if trial.state == "finished"]
    assert finished
    assert [trial.run_id for trial in finished] == [f"run {each.number}" for each in finished]


def test_a_small_network_is_never_stopped_by_a_larger_one(begin) -> None:
    search = begin(
        *STOP,
        "search.num_trials=16",
        "search.objectives=[val_error, size_bytes]",
        "space.quantizer.name={choice: [binary, ternary]}",
    )
    run(search, 2)
    binary = [t for t in search.study.trials() if t.config.quantizer.name == "binary"]
    best_binary = min(binary, key=lambda trial: trial.epochs[-1]["val_error_hybrid"])
    assert best_binary.state == "finished"


def test_repeats_cost_nothing_and_do_not_count(begin) -> None:
    search = begin(
        "search.sampler=random", "search.num_trials=6", "space.optimizer.lr={choice: [0.01, 0.02]}"
    )
    trained = run(search, 2)
    trials = search.study.trials()
    assert search.driver.ending() == "exhausted"
    assert sum(trial.counts for trial in trials) == 4
    repeats = [trial for trial in trials if trial.duplicate_of is not None]
    by_number = {trial.number: trial for trial in trials}
    for repeat in repeats:
        twin = by_number[repeat.duplicate_of]
        assert (repeat.config, repeat.val_error) == (twin.config, twin.val_error)
    assert len(trained) == 4 * 4 + 2 * 4


def test_refused_configurations_are_never_trained(begin) -> None:
    probe = begin("name=probe")
    sizes = sorted({t.size_bytes for t in [probe.study.ask(), probe.study.ask()]})
    assert len(sizes) == 2
    search = begin(f"target={{max_flash: {sizes[0]}}}", "search.num_trials=8")
    trained = run(search, 2)
    trials = search.study.trials()
    refused = {trial.number for trial in trials if trial.state == "refused"}
    assert len(refused) >= 7
    assert sum(trial.state == "finished" for trial in trials) == 8
    assert not refused & {number for number, _ in trained}
    assert all(
        trial.why and "max_flash" in trial.why for trial in trials if trial.number in refused
    )


@pytest.mark.parametrize("kind", ["stop", "pause"])
def test_a_rung_within_a_shared_warm_up_holds_nobody(begin, kind) -> None:
    search = begin(
        f"search.early_stopping={{name: {kind}, rungs: [0.25], keep: 0.5, min_trials: 2}}",
        "space.optimizer.lr={choice: [0.01]}",
        "space.quantizer.name={choice: [ternary, lsq_ternary]}",
        "space.selection.function={choice: [linear, constant, softmax]}",
        "search.num_trials=6",
    )
    trained = run(search, 2)
    assert set(states(search).values()) == {"finished"}
    assert sum(epoch <= 4 for _, epoch in trained) == 4


def test_a_target_error_that_was_reached_ends_the_next_command_at_once(begin) -> None:
    reached = "search.target_error=0.16"  # 0.01 + 1 / 8 is below, of the first trial already
    first = begin(reached)
    assert run(first, 1)
    assert first.driver.ending() == "target error"
    again = begin(reached)
    assert not run(again, 1)
    assert again.driver.ending() == "target error"
    assert begin("search.target_error=0.1").driver.next_trial() != "end"


def repeating(kind: str, num_trials: int) -> list[str]:
    """Return a good trial, a bad one, and the bad one's configuration in other words."""
    return [
        f"search.early_stopping={{name: {kind}, rungs: [0.75], keep: 0.25, min_trials: 2}}",
        f"search.num_trials={num_trials}",
        "space.schedule={choice: [{name: exponential}, {name: exponential, num_stages: 4}]}",
        "points=[{optimizer.lr: 0.01, quantizer.name: binary, schedule: {name: exponential}}, "
        "{optimizer.lr: 0.08, quantizer.name: binary, schedule: {name: exponential}}, {optimizer.lr"
        ": 0.08, quantizer.name: binary, schedule: {name: exponential, num_stages: 4}}]",
    ]


@pytest.mark.parametrize(("kind", "held"), [("pause", "paused"), ("stop", "stopped")])
@pytest.mark.parametrize("num_slots", [3, 1])  # the repeat waits for the other, or comes after it
def test_a_repeat_of_what_was_held_at_a_rung_is_refused(begin, kind, held, num_slots) -> None:
    search = begin(*repeating(kind, 3))
    trained = run(search, num_slots)
    assert [states(search)[number] for number in range(3)] == ["finished", held, "refused"]
    assert 2 not in dict(trained)


def test_so_is_one_of_what_an_earlier_driver_stopped(begin) -> None:
    first = begin(*repeating("stop", 2))
    run(first, 1)
    assert list(states(first).values()) == ["finished", "stopped"]
    again = begin(*repeating("stop", 3))
    trained = run(again, 1)
    assert states(again)[2] == "refused"
    assert 2 not in dict(trained)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_proposals_that_only_repeat_what_is_held_come_to_an_end(begin, sampler, monkeypatch):
    monkeypatch.setattr("sqtune.search.propose.MOST_USELESS", 20)
    search = begin(
        "search.early_stopping={name: pause, rungs: [0.75], keep: 0.25, min_trials: 2}",
        f"search.sampler={sampler}",
        "search.num_trials=20",
        "space.optimizer.lr={choice: [0.01, 0.02, 0.03]}",
        "space.quantizer.name={choice: [binary, float]}",  # float ones do not fit, and are endless
        "space.optimizer.momentum={float: [0.8, 0.9], when: {quantizer.name: float}}",
        "target={max_flash: 10000}",
        "points=[{optimizer.lr: 0.01, quantizer.name: binary}]",
    )
    run(search, 2)
    assert search.driver.ending() == "exhausted"


def test_a_network_that_cannot_be_written_ends_the_search_and_no_trial(begin) -> None:
    search = begin("search.num_trials=4")
    assignment = search.driver.next_trial()
    assert isinstance(assignment, Assignment)
    config = TrialConfig.model_validate_json(assignment.config)
    epochs = [measured(config, epoch) for epoch in range(1, config.num_epochs)]
    assert search.driver.on_report({"number": 0, "epochs": epochs, "unwritable": "no space left"})
    assert search.driver.next_trial() == "end"
    assert search.driver.ending() == "unwritable"
    assert search.study.release_unfinished() == [0]
    again = begin("search.num_trials=4")
    run(again, 2)
    assert set(states(again).values()) == {"finished"}


def test_a_node_that_does_not_suit_ends_the_search_and_no_trial(begin) -> None:
    search = begin("search.num_trials=2")
    search.driver.next_trial()
    report = {"number": 0, "epochs": [], "done": True, "unsuited": "node a: torch 1.0"}
    assert search.driver.on_report(report)
    assert search.driver.next_trial() == "end"
    assert search.driver.ending() == "unsuited node"
    assert search.limits.hindrance == ("unsuited node", "node a: torch 1.0")
    assert states(search) == {0: "running"}


def test_a_trial_begins_again_until_workers_die_in_the_same_epoch(begin) -> None:
    search, trained = begin("search.num_trials=1"), []
    for _ in range(MAX_WORKER_DEATHS):
        search.driver.on_death(search.driver.next_trial().number, Death("worker"))
    leg = Leg(search, search.driver.next_trial(), trained)
    assert not leg.advance()  # an epoch further, so earlier deaths no longer count
    for deaths in range(1, MAX_WORKER_DEATHS + 2):
        search.driver.on_death(0, Death("worker"))
        if deaths <= MAX_WORKER_DEATHS:
            assert search.driver.next_trial().number == 0
    assert search.driver.next_trial() == "end"
    assert states(search) == {0: "failed"}
    assert f"died {MAX_WORKER_DEATHS + 1} times" in search.study.trial(0).failure
    search.driver.on_death(0, Death("worker"))  # of a trial that has ended: nothing
    assert states(search) == {0: "failed"}

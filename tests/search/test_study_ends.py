"""How trials end and wait: paused, stopped, refused, repeated; and what is told of several aims."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from sqtune.config.space import SearchSpace
from sqtune.search.stored import state_of
from sqtune.store import Store

from .studies import asked, finish, new_store, on_digits, opened, space_of

SPACE = """\
trial: {network: {name: resnet8, width: 4}, num_epochs: 4}
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 5, sampler: random, seed: 3}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path / "store")


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return space_of(tmp_path, SPACE)


def test_a_stopped_trial_keeps_its_epochs_and_is_never_complete(store, space):
    study = opened(store, space)
    trial = asked(study)
    for epoch in (1, 2):
        study.report(trial.number, epoch, {"train_loss": 1.0, "val_error": 0.9 / epoch})
    study.stop(trial.number, 2, "worse than 3 of 4 at epoch 2")
    (stored,) = study._study.trials
    assert stored.state == TrialState.PRUNED
    assert stored.intermediate_values == {1: 0.9, 2: 0.45}
    (read,) = opened(store, space).trials()
    assert (read.state, read.why, read.val_error) == (
        "stopped",
        "worse than 3 of 4 at epoch 2",
        None,
    )
    assert (len(read.epochs), read.epochs_trained, read.epochs_asked) == (2, 2, 4)
    assert (read.ended, read.counts) == (True, True)
    assert asked(opened(store, space)).number == 1


def test_a_decision_that_was_written_is_not_taken_again(store, space):
    """The driver was killed between the reason and the state: another rung might say otherwise."""
    study = opened(store, space)
    study.report(asked(study).number, 1, {"train_loss": 1.0, "val_error": 0.8})
    study.stop(0, 1, "worse")
    asked(study)
    study.fail(1, "the loss is nan")
    lines = store.journal.read_bytes().splitlines(keepends=True)
    ends = [index for index, line in enumerate(lines) if b'"op_code":6' in line]
    store.journal.write_bytes(b"".join(line for i, line in enumerate(lines) if i not in ends))
    assert [trial.state for trial in opened(store, space).trials()] == ["stopped", "failed"]


def test_a_paused_trial_waits_across_drivers_and_goes_on_where_it_was(store, space):
    study = opened(store, space)
    first, second = asked(study), asked(study)
    study.report(first.number, 1, {"train_loss": 1.0, "val_error": 0.8})
    study.pause(first.number, 1)
    assert study.trial(0).state == "paused"

    study = opened(store, space)
    assert [trial.state for trial in study.trials()] == ["paused", "interrupted"]
    assert asked(study).number == second.number  # not the paused one
    assert asked(study).number == 2
    resumed = study.resume(0)
    assert (resumed.state, resumed.values, len(resumed.epochs)) == ("running", first.values, 1)
    before = study.trial(0).epochs[0]
    assert study.report(0, 1, {"train_loss": 1.0, "val_error": 0.8}) == before
    finish(study, resumed, 0.1)
    assert study.trial(0).val_error == 0.1


def test_a_resumed_trial_is_interrupted_like_any_other(store, space):
    study = opened(store, space)
    study.pause(asked(study).number, 1)
    study.resume(0)
    study = opened(store, space)
    assert [trial.state for trial in study.trials()] == ["interrupted"]
    assert asked(study).number == 0


def test_what_is_paused_at_the_end_is_stopped(store, space):
    study = opened(store, space)
    for number in range(3):
        asked(study)
        study.report(number, 1, {"train_loss": 1.0, "val_error": 0.8})
    study.pause(0, 1)
    study.pause(2, 1)
    study = opened(store, space)
    assert study.close_paused() == [0, 2]
    assert study.close_paused() == []
    states = [trial.state for trial in study.trials()]
    assert states == ["stopped", "interrupted", "stopped"]
    assert study.trial(0).why == "it waited at epoch 1 until the search ended"


def test_an_epoch_before_anything_is_quantized_has_no_val_error(store, space):
    study = opened(store, space)
    trial = asked(study)
    before = study.report(trial.number, 1, {"train_loss": 2.0, "ratio": 0.0, "restored": 1.0})
    assert study.report(trial.number, 1, {"train_loss": 2.0, "ratio": 0.0}) == before
    assert study.report(trial.number, 1, {"train_loss": 2.5, "ratio": 0.0}) != before
    study.report(trial.number, 1, {"train_loss": 2.0, "ratio": 0.0, "restored": 1.0})
    study.report(trial.number, 2, {"train_loss": 1.0, "val_error": 0.5})
    assert study._study.trials[0].intermediate_values == {2: 0.5}
    assert study.trial_last_error(trial.number) == 0.5
    study.finish(trial.number, 0.5, {})
    (read,) = opened(store, space).trials()
    assert (read.epochs_trained, read.epochs_asked, len(read.epochs)) == (1, 4, 2)


def test_several_objectives_are_told_in_their_order(tmp_path, store):
    objectives = "objectives: [size_bytes, val_error, bit_operations], sampler: tpe"
    space = space_of(tmp_path, SPACE.replace("sampler: random", objectives))
    study = opened(store, space, footprint=on_digits)
    for number in range(14):  # past TPE's ten random ones
        trial = asked(study)
        if number % 5 == 4:
            study.report(number, 1, {"train_loss": 1.0, "val_error": 0.5})
            study.stop(number, 1, "worse")
        else:
            finish(study, trial, 0.1 + 0.01 * number)
    study = opened(store, space, footprint=on_digits)
    for stored, trial in zip(study._study.trials, study.trials(), strict=True):
        expected = on_digits(trial.config)
        assert trial.facts["size_bytes"] == expected.size_bytes
        if trial.state == "finished":
            error = trial.val_error
            assert stored.values == [expected.size_bytes, error, expected.bit_operations]
            assert trial.facts["num_validation"] == 449
        else:
            assert (trial.state, stored.state) == ("stopped", TrialState.PRUNED)
            assert len(trial.epochs) == 1


SMALL = """\
trial: {network: {name: resnet8, width: 4}, num_epochs: 4}
space:
  quantizer.name: {choice: [binary, uniform]}
  optimizer.lr: {choice: [0.1, 0.2]}
points:
  - {quantizer.name: binary, optimizer.lr: 0.1}
  - {quantizer.name: uniform, optimizer.lr: 0.2}
search: {num_trials: 5, sampler: random, seed: 3}
"""


def test_an_equal_configuration_that_finished_costs_nothing(tmp_path, store):
    """Two ways to write the same: the schedule's default, written out."""
    text = SMALL.replace(
        "optimizer.lr: {choice: [0.1, 0.2]}",
        "schedule: {choice: [{name: linear}, {name: linear, warmup: 0.0}]}",
    ).replace("optimizer.lr: 0.1", "schedule: {name: linear}")
    text = text.replace(
        "quantizer.name: uniform, optimizer.lr: 0.2",
        "quantizer.name: binary, schedule: {name: linear, warmup: 0.0}",
    )
    space = space_of(tmp_path, text)
    study = opened(store, space, footprint=on_digits)
    first, second = asked(study), asked(study)
    assert first.values != second.values
    assert first.config == second.config
    assert study.twin(second.number) == first.number
    assert study.twin(first.number) is None
    assert not study.settle_duplicate(second.number)
    finish(study, first, 0.25)
    assert study.twin(second.number) is None
    assert study.settle_duplicate(second.number)

    study = opened(store, space)
    original, repeated = study.trials()[:2]
    assert (repeated.state, repeated.duplicate_of, repeated.val_error) == ("finished", 0, 0.25)
    assert repeated.facts == original.facts
    assert [epoch["val_error"] for epoch in repeated.epochs] == [0.25, 0.25]
    assert (repeated.epochs_trained, original.epochs_trained) == (0, 2)
    assert (repeated.counts, original.counts) == (False, True)
    assert study._study.trials[1].values == [0.25]


def test_a_repeated_trial_comes_back_ended_from_ask_also_after_a_crash(tmp_path, store):
    space = space_of(tmp_path, SMALL)
    study = opened(store, space)
    finish(study, asked(study), 0.25)
    again = space.model_copy(update={"points": [*space.points, {"quantizer.name": "binary"}]})
    seen = []
    for _ in range(12):
        study = opened(store, again)  # every time a new driver
        trial = study.ask()
        if trial is None:
            break
        seen.append((trial.state, trial.duplicate_of))
        if trial.state == "running":
            finish(study, trial, 0.3)
    assert seen[0] == ("running", None)  # the second point
    assert ("finished", 0) in seen
    assert len({str(t.config) for t in study.trials() if t.counts}) == 4
    assert study.exhausted == "every point of the space has been proposed: there are 4"


def test_a_network_that_does_not_fit_is_refused_untrained(tmp_path, store):
    text = SMALL + "target: {max_flash: 5KiB, max_ram: 100KiB}\n"
    space = space_of(tmp_path, text)
    study = opened(store, space, footprint=on_digits)
    binary, uniform = asked(study), asked(study)
    assert binary.state == "running"
    assert (uniform.state, uniform.counts, uniform.epochs_asked) == ("refused", False, 0)
    assert "max_flash is 5.0 KiB" in uniform.why
    assert uniform.size_bytes > 5 * 1024 > binary.size_bytes
    fits, refused = study._study.trials
    assert refused.state == TrialState.PRUNED
    assert refused.constraints["max_flash"] > 0 >= refused.constraints["max_ram"]
    assert fits.constraints["max_flash"] <= 0
    read = opened(store, space, footprint=on_digits).trials()
    assert [trial.state for trial in read] == ["interrupted", "refused"]
    assert read[1] == uniform


def test_states_are_told_apart_by_their_marks(store, space):
    study = opened(store, space)
    asked(study)
    study.fail(0, "the loss is nan")
    assert [state_of(trial) for trial in study._study.trials] == ["failed"]
    assert study.trial(0).counts


def test_the_run_of_a_trial_is_stored_while_it_is_paused_and_when_it_has_ended(store, space):
    study = opened(store, space)
    asked(study)
    study.pause(0, 1)
    study.set_run_id(0, "its run")
    assert study.trial(0).run_id == "its run"
    finish(study, asked(study))
    study.set_run_id(1, "late")
    assert study.trial(1).run_id == "late"

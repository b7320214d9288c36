"""A driver killed after any write of the journal, or within it: the next one ends the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sqtune.config.space import SearchSpace
from sqtune.search.records import TrialRecord
from sqtune.search.study import Study
from sqtune.store import Store

from .studies import new_store, on_digits, opened, space_of

SPACE = """\
trial: {num_epochs: 2}
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3], when: {quantizer.name: uniform}}
  optimizer.lr: {float: [0.02, 0.3], log: true}
search: {num_trials: 4, sampler: random, seed: 5}
"""

EVERYTHING = """\
trial: {network: {name: resnet8, width: 4}, num_epochs: 2}
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 3], when: {quantizer.name: uniform}}
  optimizer.lr: {choice: [0.1, 0.2, 0.3]}
points:
  - {quantizer.name: uniform, quantizer.bits: 3, optimizer.lr: 0.1}
  - {quantizer.name: binary, optimizer.lr: 0.2}
  - {optimizer.lr: 0.1}
search: {num_trials: WANTED, sampler: SAMPLER, seed: 5}
target: {max_flash: 5KiB}
"""
STOPPED = {"quantizer.name": "binary", "optimizer.lr": 0.3}
FAILED = {"quantizer.name": "uniform", "quantizer.bits": 2, "optimizer.lr": 0.3}


def drive(store: Store, space: SearchSpace) -> tuple[list[list[float]], list[tuple[Any, ...]]]:
    """Drive the study to its end; return what it came to."""
    study = opened(store, space, footprint=on_digits)
    while True:
        trials = study.trials()
        due = [trial for trial in trials if trial.state == "paused" and is_due(trial, trials)]
        if due:
            train(study, study.resume(due[0].number))
        elif sum(trial.counts for trial in trials) >= space.search.num_trials:
            break
        else:
            trial = study.ask()
            if trial is None:
                break
            if not trial.ended:
                train(study, trial)
    study.close_paused()
    errors = [[epoch["val_error"] for epoch in trial.epochs] for trial in study.trials()]
    return errors, [
        (t.number, t.state, t.values, t.config, t.facts, t.why, t.failure, t.duplicate_of)
        for t in study.trials()
    ]


def train(study: Study, trial: TrialRecord) -> None:
    """Train the first epoch, and the second where the trial goes on."""
    number, everything = trial.number, bool(study.space.points)
    for epoch in (1, 2):
        study.report(number, epoch, {"val_error": 0.5 / (1 + number) / epoch})
        if everything and epoch == 1 and trial.values == STOPPED:
            return study.stop(number, epoch, "worse")
        waits = everything and epoch == 1 and trial.values["optimizer.lr"] == 0.2
        if waits and not is_due(trial, study.trials()):
            return study.pause(number, epoch)
    if everything and trial.values == FAILED:
        return study.fail(number, "the loss is nan")
    return study.finish(number, study.trial_last_error(number), {"node": 1})


def is_due(trial: TrialRecord, trials: list[TrialRecord]) -> bool:
    """Tell whether the trial after one has ended: then that one goes on."""
    return any(other.number == trial.number + 1 and other.ended for other in trials)


def kill_everywhere(
    folder: Path, space: SearchSpace, cuts: Callable[[bytes], tuple[int, ...]]
) -> list[tuple[Any, ...]]:
    whole = new_store(folder / "whole")
    undisturbed = drive(whole, space)
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 30
    for written in range(len(lines)):
        for cut in cuts(lines[written]):
            store = new_store(folder / f"{written}-{cut}")
            store.journal.write_bytes(b"".join(lines[:written]) + lines[written][:cut])
            assert drive(store, space) == undisturbed, (written, lines[written][:cut])
    return undisturbed[1]


def test_whatever_was_written_last_the_study_ends_the_same(tmp_path: Path) -> None:
    kill_everywhere(tmp_path, space_of(tmp_path, SPACE), lambda line: (0, 20, len(line) - 1))


@pytest.mark.parametrize(("sampler", "num_trials"), [("random", 4), ("grid", 9)])
def test_so_it_does_with_points_pauses_stops_refusals_and_repeats(
    tmp_path: Path, sampler: str, num_trials: int
) -> None:
    space = space_of(
        tmp_path, EVERYTHING.replace("SAMPLER", sampler).replace("WANTED", str(num_trials))
    )
    end = kill_everywhere(tmp_path, space, lambda line: (len(line) % 2 * len(line) // 2,))
    if sampler == "grid":
        assert {state for _, state, *_ in end} == {"finished", "refused", "stopped", "failed"}
    assert any(duplicate_of is not None for *_, duplicate_of in end)

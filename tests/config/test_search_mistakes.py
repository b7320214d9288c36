"""Mistakes in how a search runs: early stopping, objectives, budgets, limits; see `mistakes.py`."""

from __future__ import annotations

import pytest
from mistakes import assert_told, cases

from sqtune.config import load_space

MISTAKES = """
== rungs that fall
search:
  early_stopping: {name: stop, rungs: [0.5, 0.25]}  #! search.early_stopping.rungs: rungs are shares
== no rung at all
search:
  early_stopping: {name: stop, rungs: []}  #! search.early_stopping.rungs: a list of at least 1 item
== a limit that is no number
target: {max_flash: true}  #! target.max_flash: a number is needed here, such as 64KiB, not True.
== a limit of less than a byte
target: {max_flash: 0.0001KiB}  #! target.max_flash: '0.0001KiB' is not & 1 at least
== a rung at the end
search:
  early_stopping: {name: stop, rungs: [0.5, 1.0]}  #! search.early_stopping.rungs: rungs are shares
== an unknown kind of early stopping
search:
  early_stopping: {name: halt}  #! search.early_stopping.name: 'halt' is unknown.
== everything kept
search:
  early_stopping: {name: stop, keep: 1.0}  #! search.early_stopping.keep: must be less than 1
== nothing to be mixed with
trial:
  batch_size: 1
  regularization: {mixup: 0.2}  #! trial.regularization.mixup: a batch of one image has nothing
== losses that differ by trial
search:
  early_stopping: {name: stop}  #! search.early_stopping: trials are compared by & val_error
space:
  distillation.weight: {float: [0.1, 0.9]}
trial: {schedule: {name: exponential, warmup: 0.5}}
== losses that differ by label
search:
  early_stopping: {name: pause}  #! search.early_stopping: & regularization.mixup gives & val_error
space:
  regularization.mixup: {choice: [0, 0.2]}
== losses that differ by regularization as a whole
search:
  early_stopping: {name: stop}  #! search.early_stopping: & regularization gives each another
space:
  regularization: {choice: [{}, {label_smoothing: 0.1}]}
== an unknown sampler
search:
  sampler: tpee  #! search.sampler: 'tpee' is unknown. Did you mean "tpe"?
== a grid without end
search:
  sampler: grid
space:
  optimizer.momentum: {float: [0.5, 0.9]}  #! space.optimizer.momentum: a grid goes through & step
== early stopping by name alone
search:
  early_stopping: stop  #! search.early_stopping: a mapping is needed here
== an objective twice
search:
  objectives: [val_error, val_error]  #! search.objectives: each objective stands once
== objectives without the error
search:
  objectives: [size_bytes]  #! search.objectives: val_error is one of the objectives
== a sampler of one objective
search:  #! search: the sampler cmaes takes one objective, not 2 & nsga2
  sampler: cmaes
  objectives: [val_error, size_bytes]
== a size that is none
target:
  max_flash: 64KB2  #! target.max_flash: '64KB2' is not a size & KiB
== a size of nothing
target:
  max_ram: 0  #! target.max_ram: 0 is not a size & above 0
== a count with a unit of size
target:
  max_macs: 20MiB  #! target.max_macs: '20MiB' is not a count & 20M
== an unknown form
target:
  form: tflite  #! target.form: 'tflite' is unknown.
== a time that is none
search:
  time_limit_seconds: 2 fortnights  #! search.time_limit_seconds: '2 fortnights' is not a time & 2h
== an error that is none
search:
  target_error: 2  #! search.target_error: 2 is not an error & 1%
"""


@pytest.mark.parametrize("text", cases(MISTAKES))
def test_message(tmp_path, text):
    assert_told(tmp_path, text)


def test_units_are_taken_as_people_write_them(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "search: {time_limit_seconds: 2h, target_error: 1%, watchdog_seconds: 90min}\n"
        "target: {form: c, max_flash: 64KiB, max_ram: 20kB, max_macs: 20M}\n"
        "stages: {max_size: 1.5GiB}\n"
    )
    space = load_space(path)
    assert space.search.time_limit_seconds == 7200
    assert space.search.watchdog_seconds == 5400
    assert space.search.target_error == 0.01
    assert space.target is not None
    assert (space.target.max_flash, space.target.max_ram) == (65536, 20000)
    assert space.target.max_macs == 20_000_000
    assert space.stages.max_size == 3 * 2**29

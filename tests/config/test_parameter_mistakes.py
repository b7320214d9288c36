"""Mistakes in what is searched: ranges, choices and conditions; `mistakes.py` says how."""

from __future__ import annotations

import pytest
from mistakes import assert_told, cases

MISTAKES = """
== reversed range
space:
  optimizer.lr: {float: [0.3, 0.1]}  #! space.optimizer.lr: & reversed: 0.3 & Write [0.1, 0.3].
== empty range
space:
  num_epochs: {int: [3, 3]}  #! space.num_epochs: the range is empty but for 3: fix & trial:
== range with one end
space:
  optimizer.lr:
    float: [0.3]  #! space.optimizer.lr.float.1: & needed
== range with three ends
space:
  optimizer.lr:
    log: true
    float: [0.1, 0.2, 0.3]  #! space.optimizer.lr.float: & at most 2 items & not 3
== fraction in a range of whole numbers
space:
  num_epochs:
    int:
      - 1
      - 3.5  #! space.num_epochs.int.1: must be a valid integer, not 3.5.
== NaN in a range
space:
  optimizer.lr: {float: [.nan, 1]}  #! space.optimizer.lr: a range has finite ends, not [nan
== logarithmic range from 0
space:
  optimizer.lr: {float: [0, 0.1], log: true}  #! space.optimizer.lr: & starts above 0, not at 0.0.
== log and step
space:
  optimizer.lr: {float: [0.1, 0.3], log: true, step: 0.1}  #! space.optimizer.lr: log and step
== log and step of whole numbers
space:
  num_epochs: {int: [1, 9], log: true, step: 2}  #! space.num_epochs: log and step & leave one out.
== steps that cannot be listed
space:
  optimizer.lr:
    float: [0.1, 1]
    step: 1.0e-300  #! space.optimizer.lr.step: steps of 1e-300 from 0.1 to 1 are more & larger
== whole numbers that no sampler tells apart
space:
  seed: {int: [0, 9223372036854775807]}  #! space.seed.int: & up to 9007199254740992 & smaller
== step 0
space:
  num_epochs:
    int: [1, 3]
    step: 0  #! space.num_epochs.step: must be greater than or equal to 1, not 0.
== no choice at all
space:
  num_epochs: {choice: []}  #! space.num_epochs.choice: & at least 1 item
== duplicate choice
space:
  quantizer.name:
    choice: [binary, ternary, binary]  #! space.quantizer.name.choice: & stand twice: binary.
== duplicate mapping in a choice
space:
  schedule:
    choice:  #! space.schedule.choice: these values stand twice: average num_stages=3.
      - {name: average, num_stages: 3}
      - {num_stages: 3, name: average}
== two kinds of parameter
space:
  optimizer.lr: {float: [0.1, 1], int: [1, 2]}  #! space.optimizer.lr: & one of choice, int, float
== unknown kind of parameter
space:
  optimizer.lr: {flaot: [0.1, 1]}  #! space.optimizer.lr: & one of choice, int, float, for example
== number for a parameter
space:
  optimizer.lr: 0.1  #! space.optimizer.lr: a parameter has exactly one of choice, int, float
== text for a parameter
space:
  optimizer.lr: fast  #! space.optimizer.lr:
== list for a parameter
space:
  optimizer.lr: [0.1, 0.3]  #! space.optimizer.lr:
== nothing for a parameter
space:
  optimizer.lr:  #! space.optimizer.lr:
== condition on a parameter that is not there
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits:
    choice: [2, 3]
    when:
      quantizer.nam: uniform  #! space.quantizer.bits.when.quantizer.nam: & "quantizer.name"?
== condition on an impossible value
space:
  quantizer.bits:
    choice: [2, 3]
    when:
      quantizer.name: unifrm  #! space.quantizer.bits.when & 'unifrm' & never hold & "uniform"?
  quantizer.name: {choice: [binary, uniform]}
== condition on a list with an impossible value
space:
  batch_size: {choice: [32, 64]}
  seed: {int: [0, 9], when: {batch_size: [32, 48]}}  #! space.seed.when.batch_size: 48 is & 32, 64
== condition on a number outside the range
space:
  num_epochs: {int: [1, 3]}
  seed: {int: [0, 9], when: {num_epochs: 4}}  #! space.seed.when.num_epochs: & never hold
== conditions in a circle
trial: {}
space:  #! space: these conditions go in a circle: num_epochs, batch_size.
  num_epochs: {int: [1, 3], when: {batch_size: 32}}
  batch_size: {choice: [32, 64], when: {num_epochs: 2}}
== condition on itself
space:  #! space: these conditions go in a circle: num_epochs.
  num_epochs: {int: [1, 3], when: {num_epochs: 2}}
"""


@pytest.mark.parametrize("text", cases(MISTAKES))
def test_a_mistake_in_what_is_searched_is_told(tmp_path, text):
    assert_told(tmp_path, text)

"""Mistakes in what is fixed, in the other sections and in YAML itself; `mistakes.py` says how."""

from __future__ import annotations

import json

import pytest
from mistakes import assert_told, cases

from sqtune.config import load_space
from sqtune.config.asked import asked_space
from sqtune.errors import ConfigError

MISTAKES = """
== unknown section
trial: {seed: 1}
spaces: {}  #! spaces: no such field. & Did you mean "space"?
== unknown field of a trial
trial:
  seed: 1
  batch_siz: 3  #! trial.batch_siz: no such field. & Did you mean "batch_size"?
== unknown field of a trial, nothing near
trial:
  zzz: 3  #! trial.zzz: no such field. & Known are: & num_epochs
== unknown nested field
trial:
  optimizer:
    name: sgd
    lrr: 0.1  #! trial.optimizer.lrr: no such field. & Did you mean "lr"?
== unknown field of a learning-rate schedule
trial:
  optimizer:
    schedule:
      name: steps
      gama: 0.2  #! trial.optimizer.schedule.gama: no such field. & Did you mean "gamma"?
== unknown field in a flow mapping
trial:
  network: {name: resnet8, widht: 3}  #! trial.network.widht: no such field. & mean "width"?
== unknown space path
space:
  batch_size: {choice: [32, 64]}
  optimizer.lrr: {float: [0.1, 1.0]}  #! space.optimizer.lrr: no such field. & Did you mean "lr"?
== unknown first part of a space path
space:
  batch_size: {choice: [32, 64]}
  optimiser.lr: {float: [0.1, 1.0]}  #! space.optimiser.lr: no such field. & mean "optimizer"?
== unknown field of a parameter
space:
  optimizer.lr:
    float: [0.1, 1.0]
    logg: true  #! space.optimizer.lr.logg: no such field. & Did you mean "log"?
== unknown field of search
search:
  num_trial: 3  #! search.num_trial: no such field. & Did you mean "num_trials"?
== unknown field of resources
resources:
  gpus: 0
  cpu: 3  #! resources.cpu: no such field. & Did you mean "cpus"?
== unknown quantizer
trial:
  quantizer:
    name: ternry  #! trial.quantizer.name: 'ternry' is unknown. & Did you mean "ternary"?
== unknown network
trial:
  network:
    width: 4
    name: resnet9  #! trial.network.name: 'resnet9' is unknown. & Did you mean "resnet8"?
== unknown sampler
search:
  sampler: tpee  #! search.sampler: 'tpee' is unknown. & Did you mean "tpe"?
== unknown name in a choice
space:
  selection.function: {choice: [linear, lineer]}  #! space.selection.function: 'lineer' & "linear"?
== unknown field in a mapping of a choice
space:
  schedule:  #! space.schedule: no such field. & Did you mean "num_stages"?
    choice: [{name: average}, {name: exponential, num_stage: 3}]
== field of another quantizer
trial:
  quantizer:
    name: binary
    bits: 3  #! trial.quantizer.bits: no such field. & Known are: name
== searched field of another quantizer
trial:
  quantizer: {name: ternary}
space:
  quantizer.bits: {choice: [2, 3]}  #! space.quantizer.bits: no such field. & Known are: thr
== field that fits only some of the searched quantizers
space:
  quantizer.name: {choice: [uniform, binary]}
  quantizer.bits: {choice: [2, 3]}  #! space.quantizer.bits: no such & with quantizer.name=binary
== field of another quantizer in a mapping of a choice
space:
  quantizer:  #! space.quantizer: no such field. & Known are: name
    choice: [{name: ternary}, {name: binary, bits: 3}]
== text for a whole number
trial:
  batch_size: many  #! trial.batch_size: must be a valid integer, not 'many'.
== fraction for a whole number
trial:
  batch_size: 64.5  #! trial.batch_size: must be a valid integer, not 64.5.
== truth value for a whole number
trial:
  num_epochs: true  #! trial.num_epochs: must be a valid integer, not True.
== yes is no truth value in YAML 1.2
trial:
  data:
    name: digits
    mirror: yes  #! trial.data.mirror: must be a valid boolean, not 'yes'.
== number for a section
trial: 3  #! trial: a mapping is needed here
== empty section
trial: {}
search:  #! search: a mapping is needed here
== text for a mapping
trial:
  quantizer: binary  #! trial.quantizer: a mapping is needed here
== mapping without its name
trial:
  quantizer: {bits: 3}  #! trial.quantizer: a mapping with a name is needed here, such as {name:
== needed field left out
trial:
  data: {name: image_folder}  #! trial.data.root: this field is needed & give it a value.
== NaN
trial:
  optimizer:
    lr: .nan  #! trial.optimizer.lr: must be a finite number, not nan.
== infinity
trial:
  optimizer:
    weight_decay: .inf  #! trial.optimizer.weight_decay: must be a finite number, not inf.
== 9 bits
trial:
  quantizer:
    name: uniform
    bits: 9  #! trial.quantizer.bits: 9 is unknown. & 2, 3, 4, 5, 6, 7, 8
== 9 bits at the end of a range
trial: {quantizer: {name: uniform}}
space:
  quantizer.bits: {int: [2, 9]}  #! space.quantizer.bits: 9 is unknown. & 2, 3, 4, 5, 6, 7, 8
== 9 bits behind a condition
space:
  quantizer.name: {choice: [binary, uniform]}
  quantizer.bits: {choice: [2, 9], when: {quantizer.name: uniform}}  #! space.quantizer.bits: 9 is
== learning rate below 0
space:
  optimizer.lr: {float: [-0.1, 0.3]}  #! space.optimizer.lr: must be greater than 0, not -0.1.
== no trials
search:
  num_trials: 0  #! search.num_trials: must be greater than or equal to 1, not 0.
== one and a half GPUs
resources:
  gpus: 1.5  #! resources.gpus: gpus is a share of one GPU or a whole number, not 1.5.
== falling schedule
trial:
  schedule:  #! trial.schedule: ratios never fall & [0.5, 0.25, 1.0]
    name: stages
    ratios: [0.5, 0.25, 1]
== schedule that does not end at 1
trial:
  schedule: {name: stages, ratios: [0.5, 0.75]}  #! trial.schedule: the last ratio is 1 & not 0.75
== falling schedule in a choice
space:
  schedule:  #! space.schedule: ratios never fall & [0.5, 0.25, 1.0]
    choice: [{name: average}, {name: stages, ratios: [0.5, 0.25, 1]}]
== milestone past the end
trial:
  optimizer:
    schedule: {name: steps, milestones: [1.5]}  #! trial.optimizer.schedule: milestones are & (0, 1)
== nothing left to train on
trial:
  data: {name: digits, validation: 0.5, test: 0.5}  #! trial.data: & leave nothing & 0.5 + 0.5
== nothing left to train on where two ranges end
trial: {data: {name: digits}}
space:
  data.validation: {float: [0.1, 0.6]}  #! space.data.validation: & leave nothing to train on
  data.test: {float: [0.1, 0.6]}
== width 0
trial:
  network: {width: 0}  #! trial.network: width is 1 to 1024 channels, not 0.
== width 0 at the start of a range
trial: {network: {name: resnet8}}
space:
  network.width: {int: [0, 16]}  #! space.network.width: width is 1 to 1024 channels, not 0.
== network too deep for the image
trial:
  network: {name: resnet8}
  data:  #! trial.data: resnet8 is too deep for images of 7x7 & at least 8x8. & larger images
    {name: image_folder, root: images, image_size: 7}
== network too deep for a searched image size
trial: {data: {name: image_folder, root: images}}
space:
  data.image_size: {choice: [32, 7]}  #! space.data.image_size: & too deep for images of 7x7
== images nowhere
trial:
  data: {name: image_folder, root: " ", image_size: 8}  #! trial.data.root: names no folder
== bytes
trial:
  keep_float:
    - stem
    - !!binary aGVh  #! trial.keep_float.1: bytes and sets are no values here: write a text
== a sign that no file takes
trial:
  start: {weights: "net\\0"}  #! trial.start.weights: holds a sign that no file & leave it out
== half a letter
search:
  sampler: "\\ud800"  #! search.sampler: holds a sign that no file & leave it out
== YAML: open list
trial:
  a: [1, 2
space: {}  #! not valid YAML: & expected ',' or ']'
== YAML: indentation
trial:
  seed: 1
 batch_size: 2  #! not valid YAML:
== YAML: tab
trial:
\tseed: 1  #! not valid YAML: & '\\t'
== YAML: unknown alias
trial:
  optimizer: *o  #! not valid YAML: & undefined alias 'o'
== YAML: duplicate key
trial:
  seed: 1
  batch_size: 4
  seed: 2  #! found duplicate key "seed". Keep one of the two.
== YAML: duplicate section
trial: {seed: 1}
trial: {seed: 2}  #! found duplicate key "trial". Keep one of the two.
"""


@pytest.mark.parametrize("text", cases(MISTAKES))
def test_a_mistake_is_told_with_its_line_rule_and_remedy(tmp_path, text):
    assert_told(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("-x", "would be read as an option"),
        (" ", "cannot be seen: give it a letter"),
        ("a\0b", "holds a sign that no file or database takes"),
    ],
)
def test_a_name_that_cannot_be_typed_is_refused_with_its_place(tmp_path, name, rule):
    path = tmp_path / "space.yaml"
    path.write_text(f"trial: {{}}\nname: {json.dumps(name)}\n")
    with pytest.raises(ConfigError, match=rf"^{path}:2: name: .*{rule}"):
        load_space(path)
    path.write_text("trial: {}\n")
    with pytest.raises(ConfigError, match=rf'^--name ".*": .*{rule}'):
        asked_space(path, name=name)


def test_a_number_of_thousands_of_digits_is_a_message_wherever_it_stands(tmp_path):
    path, digits = tmp_path / "space.yaml", 5000 * "1"
    path.write_text(f"trial: {{seed: {digits}}}\n")
    with pytest.raises(ConfigError, match=r"a value cannot be read: .*numbers shorter"):
        load_space(path)
    path.write_text(f"trial:\n  seed: 0x{digits}\n")
    with pytest.raises(
        ConfigError, match=rf"^{path}:2: trial.seed: a number of hundreds of digits"
    ):
        load_space(path)
    for override in (f"trial.seed={digits}", f"trial.overrides.{digits}.match=stem"):
        path.write_text("trial: {overrides: [{match: stem, quantizer: {name: float}}]}\n")
        with pytest.raises(ConfigError, match=r"^--set trial"):
            load_space(path, [override])
    with pytest.raises(ConfigError, match=r"^the given space: trial\.seed: a number of hundreds"):
        load_space({"trial": {"seed": 10**5000}})


@pytest.mark.parametrize("text", ["- a\n- b\n", "hello\n", "", "# only a comment\n", "null\n"])
def test_a_file_without_a_mapping_is_told_what_a_space_file_has(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_space(path)
    assert str(caught.value).startswith(f"{path}: holds no mapping.")
    assert "trial:, space:, search: and resources:" in str(caught.value)


def test_a_missing_file_is_named_with_a_remedy(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_space(tmp_path / "nowhere.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'nowhere.yaml'}: no such file.")
    assert "--space" in str(caught.value)


def test_a_folder_or_a_binary_file_cannot_be_read(tmp_path):
    binary = tmp_path / "space.yaml"
    binary.write_bytes(b"\xff\xfe\x00name")
    for path in (tmp_path, binary):
        with pytest.raises(ConfigError) as caught:
            load_space(path)
        assert str(caught.value).startswith(f"{path}: cannot be read: ")

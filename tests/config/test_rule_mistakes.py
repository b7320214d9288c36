"""Mistakes in layer rules, activations and networks; `mistakes.py` says how."""

from __future__ import annotations

import pytest
from mistakes import assert_told, cases

from sqtune.config import load_space
from sqtune.errors import ConfigError

MISTAKES = """
== a square as large as the images
trial:
  regularization:
    cutout: 8  #! trial.regularization.cutout: a square of 8 x 8 & below 8
== a square that is searched too far
space:
  regularization.cutout: {int: [0, 9]}  #! space.regularization.cutout: & 9 x 9 & below 8
== Nesterov's momentum of AdamW
trial:
  optimizer:
    name: adamw
    nesterov: true  #! trial.optimizer.nesterov: Nesterov's momentum is & not of adamw & sgd
== Nesterov's momentum searched with AdamW
space:
  optimizer.name: {choice: [sgd, adamw]}
  optimizer.nesterov: {choice: [true, false]}  #! space.optimizer.nesterov: Nesterov's & when:
== unknown field of the regularization
trial:
  regularization:
    label_smothing: 0.1  #! trial.regularization.label_smothing: & Did you mean "label_smoothing"?
== pattern that is no regular expression
trial:
  keep_float:
    - stem
    - group(1  #! trial.keep_float.1: match 'group(1' is no regular expression: & stem|head
== pattern of a rule that is no regular expression
trial:
  overrides:
    - {match: stem, quantizer: {name: float}}
    - quantizer: {name: float}
      match: "*"  #! trial.overrides.1.match: match '*' is no regular expression:
== pattern of fresh weights that is no regular expression
trial:
  start:
    weights: somewhere
    fresh: [head, "["]  #! trial.start.fresh.1: match '[' is no regular expression:
== searched pattern that is no regular expression
trial: {keep_float: [stem]}
space:
  keep_float.0: {choice: [stem, "+"]}  #! space.keep_float.0: match '+' is no regular
== text for a list
trial:
  keep_float: stem  #! trial.keep_float: a list is needed here, such as [a, b], not 'stem'.
== mapping for a list
trial:
  overrides:  #! trial.overrides: a list is needed here, & not a mapping.
    match: stem
== unknown field of a rule
trial:
  overrides:
    - match: stem
      quantiser: {name: float}  #! trial.overrides.0.quantiser: no such field. & "quantizer"?
== rule without a quantizer
trial:
  overrides:
    - match: stem  #! trial.overrides.0.quantizer: this field is needed & give it a value.
== unknown quantizer of a rule
trial:
  overrides:
    - match: stem
      quantizer: {name: tenary}  #! trial.overrides.0.quantizer.name: 'tenary' & "ternary"?
== 9 bits in a rule
trial:
  overrides:
    - match: stem
      quantizer:
        name: lsq
        bits: 9  #! trial.overrides.0.quantizer.bits: 9 is unknown. & 2, 3, 4, 5, 6, 7, 8
== 9 bits in a searched rule
trial:
  overrides: [{match: stem, quantizer: {name: uniform}}]
space:
  overrides.0.quantizer.bits: {int: [2, 9]}  #! space.overrides.0.quantizer.bits: 9 is unknown.
== field that fits only some of a rule's searched quantizers
trial:
  overrides: [{match: stem, quantizer: {name: uniform}}]
space:
  overrides.0.quantizer.name: {choice: [lsq, ternary]}
  overrides.0.quantizer.bits:  #! space.overrides.0.quantizer.bits: no such & name=ternary)
    choice: [2, 3]
== index past the end of a list
trial:
  overrides: [{match: stem, quantizer: {name: uniform}}]
space:
  seed: {int: [1, 2]}
  overrides.1.quantizer.bits:  #! space.overrides.1.quantizer.bits: overrides has no entry 1: & 1,
    choice: [2, 4]
== index into a list that is not there
space:
  keep_float.0: {choice: [stem, head]}  #! space.keep_float.0: keep_float has no entry 0: & empty
== index past the end of a searched list
space:
  keep_float: {choice: [[stem, head], [stem]]}
  keep_float.1: {choice: [head]}  #! space.keep_float.1: keep_float has no entry 1:
== path into a list without an index
trial:
  overrides: [{match: stem, quantizer: {name: uniform}}]
space:
  overrides.quantizer.bits: {choice: [2]}  #! space.overrides.quantizer.bits: & overrides.0.qua
== condition on an entry that is not there
trial:
  overrides: [{match: stem, quantizer: {name: uniform}}]
space:
  seed: {int: [1, 2]}
  batch_size:
    choice: [2, 4]
    when:
      overrides.1.quantizer.name: uniform  #! space.batch_size.when.overrides.1 & nor fixed
== rule that matches no layer
trial:
  network: {name: resnet8, width: 2}
  keep_float: [stem]
  overrides:
    - match: head
      quantizer: {name: float}
    - quantizer: {name: float}
      match: group4  #! trial.overrides.1.match: & 'group4' matches no layer. & stem, group1.0.c
== rule that is only a part of names
trial:
  keep_float: [group]  #! trial.keep_float.0: the rule 'group' matches no layer. & stem, & head.
== rule that comes too late
trial:
  network: {name: resnet8}
  keep_float:
    - stem|head
    - st.m  #! trial.keep_float.1: & 'st.m' matches stem: an earlier rule has it already.
== rule for layers that are kept float
trial:
  overrides:
    - {match: head, quantizer: {name: binary}}  #! trial.overrides.0.match: & matches head: an
  keep_float: [head]
== rule that fits only some of the searched networks
trial:
  keep_float: [group1.2]  #! trial.keep_float.0: & matches no layer & (with network.name=resnet8)
space:
  network.name: {choice: [resnet20, resnet8]}
== searched pattern that matches no layer
trial:
  overrides: [{match: stem, quantizer: {name: float}}]
space:
  overrides.0.match: {choice: [stem, head, heads]}  #! space.overrides.0.match: & 'heads' matches no
== two searched patterns of which one combination cannot act
trial: {keep_float: [stem, head]}
space:
  keep_float.0: {choice: [stem, group1, group2]}
  keep_float.1: {choice: [head, group3, group2]}  #! space.keep_float.1: & group2.0.conv1, & earlier
== searched list of rules, one of which matches no layer
space:
  overrides:  #! space.overrides: the rule 'steam' matches no layer.
    choice: [[], [{match: stem, quantizer: {name: float}}, {match: steam, quantizer: {name: lsq}}]]
== 3 bits of activations
trial:
  activation_bits: 3  #! trial.activation_bits: 3 is unknown. Known are: 2, 4, 8, 32.
== unknown clipping of activations
trial:
  activation_clipping: pcat  #! trial.activation_clipping: 'pcat' & Did you mean "pact"?
== fewer bits at the ends
trial:
  activation_ends_bits: 4  #! trial.activation_ends_bits: & at least the 8 bits & not 4.
  activation_bits: 8
== fewer bits at the ends in a part of the space
space:
  activation_bits: {choice: [32, 4, 8]}
  activation_ends_bits: {choice: [4, 8]}  #! space.activation_ends_bits: & at least the 8 bits
== misspelled field beside one that is missing
trial:
  network: {name: torchvision, modle: alexnet}  #! trial.network.modle: no such field. & "model"?
== network without its model
trial:
  network: {name: torchvision}  #! trial.network.model: this field is needed
== width of a network that has none
trial:
  network:
    name: torchvision
    model: alexnet
    width: 8  #! trial.network.width: no such field. Known are: model, name.
== width 0 of another network
trial:
  network: {name: vgg9, width: 0}  #! trial.network: width is 1 to 1024 channels, not 0.
== network without a name and with a wrong field
trial:
  network: {widht: 3}  #! trial.network.widht: no such field. Did you mean "width"?
== model without the name of the network
trial:
  network: {model: alexnet}  #! trial.network: a mapping with a name is needed here
== unknown field of the start
trial:
  start: {weights: a, frsh: []}  #! trial.start.frsh: no such field. Did you mean "fresh"?
== unknown field of the distillation
trial:
  distillation:
    wieght: 0.5  #! trial.distillation.wieght: no such field. Did you mean "weight"?
== unknown precision
trial:
  compute: {precision: bfloat61}  #! trial.compute.precision: 'bfloat61' & "bfloat16"?
"""


@pytest.mark.parametrize("text", cases(MISTAKES))
def test_a_mistake_in_rules_activations_or_networks_is_told(tmp_path, text):
    assert_told(tmp_path, text)


RULES = """
trial:
  network: {name: resnet8}
  overrides:
    - {match: stem, quantizer: {name: uniform, bits: 8}}
"""


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("trial.overrides.0.quantizer.bits=9", "9 is unknown & 2, 3, 4, 5, 6, 7, 8"),
        ("trial.overrides.1.quantizer.bits=4", "trial.overrides has no entry 1: & counted from 0"),
        ("trial.overrides.x.quantizer.bits=4", "trial.overrides is a list & such as"),
        ("trial.overrides.-1.quantizer.bits=4", "trial.overrides is a list & by its index"),
        ("trial.keep_float.0=stem", "trial.keep_float has no entry 0: it is empty"),
        ("trial.overrides.0.match=steam", "'steam' matches no layer & stem, group1.0.conv1"),
        ("trial.keep_float=[stem]", ""),
        ("space.overrides.1.match={choice: [a]}", "overrides has no entry 1"),
        ("trial.activation_bits=16", "16 is unknown & 2, 4, 8, 32"),
    ],
)
def test_an_override_that_reaches_wrongly_into_a_list_is_named(tmp_path, override, parts):
    path = tmp_path / "space.yaml"
    path.write_text(RULES)
    with pytest.raises(ConfigError) as caught:
        load_space(path, [override])
    message = str(caught.value)
    if parts:
        assert message.startswith(f"--set {override}: ")
        assert all(part in message for part in parts.split(" & ")), message
    else:  # the override is right; what it leaves of the file's rule is not
        assert message.startswith(
            f"{path}:5: trial.overrides.0.match: the rule 'stem' matches stem"
        )

"""Bits per group of layers and bits of activations, fixed and searched."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sqtune.config import load_space
from sqtune.config.corners import corner_points
from sqtune.config.layers import layer_names
from sqtune.errors import ConfigError
from sqtune.networks import ResNet
from sqtune.quant import (
    Activations,
    Binary,
    Float,
    LayerRule,
    LearnedUniform,
    Ternary,
    Uniform,
)

MIXED = """
trial:
  network: {name: resnet8, width: 2}
  keep_float: [head]
  overrides:
    - {match: stem, quantizer: {name: uniform, bits: 8, scale_steps: 1}}
    - {match: "group[12]", quantizer: {name: lsq, bits: 4}}
space:
  overrides.0.quantizer.bits: {choice: [2, 4, 8]}
  overrides.1.quantizer.name: {choice: [ternary, lsq]}
  overrides.1.quantizer.bits: {choice: [2, 3], when: {overrides.1.quantizer.name: lsq}}
  activation_bits: {choice: [32, 8, 4], when: {overrides.0.quantizer.name: uniform}}
  activation_clipping: {choice: [lsq, pact], when: {activation_bits: [8, 4]}}
  activation_ends_bits: {choice: [4, 32], when: {activation_bits: 4}}
"""


@pytest.fixture
def load(tmp_path):
    def load_text(text, overrides=()):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_space(path, overrides)

    return load_text


def asked(space, **answers):
    """Return the values of a walk through a space: the given ones, otherwise each one's first."""
    values = {}
    for path, parameter in space.active(values):
        values[path] = answers.get(path, parameter.samples()[0])
    return values


def test_rules_act_in_the_order_of_the_file_and_float_comes_first(load):
    rules = load(MIXED).config({}).rules
    assert rules == (
        LayerRule("head", Float()),
        LayerRule("stem", Uniform(bits=8, scale_steps=1)),
        LayerRule("group[12]", LearnedUniform(bits=4)),
    )


def test_bits_of_a_group_are_searched_by_a_path_into_the_list(load):
    config = load(MIXED).config({"overrides.0.quantizer.bits": 2})
    assert config.overrides[0].quantizer == Uniform(bits=2, scale_steps=1)
    assert config.overrides[1].quantizer == LearnedUniform(bits=4)


def test_another_quantizer_of_a_group_loses_its_fixed_fields(load):
    space = load(MIXED)
    config = space.config({"overrides.1.quantizer.name": "ternary"})
    assert config.overrides[1].quantizer == Ternary()
    assert config.overrides[1].match == "group[12]"
    kept = space.config({"overrides.1.quantizer.name": "lsq"})
    assert kept.overrides[1].quantizer == LearnedUniform(bits=4)
    assert space.config({}).overrides[1].quantizer == LearnedUniform(bits=4)


def test_conditions_reach_into_lists_searched_and_fixed(load):
    space = load(MIXED)
    name, bits = "overrides.1.quantizer.name", "overrides.1.quantizer.bits"
    assert bits not in asked(space)
    assert asked(space, **{name: "lsq"})[bits] == 2
    assert "activation_bits" in asked(space)  # on a fixed value
    fixed = load(MIXED, ["trial.overrides.0.quantizer={name: binary}"])
    assert "activation_bits" not in asked(fixed)


def test_activations_are_searched_with_conditions(load):
    space = load(MIXED)
    assert space.config(asked(space)).activations is None
    eight = asked(space, activation_bits=8, activation_clipping="pact")
    assert "activation_ends_bits" not in eight
    assert space.config(eight).activations == Activations(8, "pact", 8)
    four = asked(space, activation_bits=4)
    assert space.config(four).activations == Activations(4, "lsq", 4)


def test_the_corners_hold_every_quantizer_of_a_group(load):
    space = load(MIXED)
    configs = {space.config(values) for values in corner_points(space)}
    of_groups = {config.overrides[1].quantizer for config in configs}
    assert of_groups == {Ternary(), LearnedUniform(bits=2), LearnedUniform(bits=3)}
    assert {config.activation_bits for config in configs} == {4, 8, 32}


def test_an_override_fixes_what_a_path_into_a_list_searches(load):
    path = "overrides.0.quantizer.bits"
    space = load(MIXED, [f"trial.{path}=3"])
    assert path not in space.space
    assert space.config({}).overrides[0].quantizer == Uniform(bits=3, scale_steps=1)
    binary = load(MIXED, ["trial.overrides.0.quantizer={name: binary}"])
    assert path not in binary.space
    assert binary.config({}).overrides[0].quantizer == Binary()
    named = load(MIXED, ["trial.overrides.1.quantizer.name=ternary"])
    assert named.config({}).overrides[1].quantizer == Ternary()


def test_numbers_in_a_list_are_searched_too(load):
    space = load("""
trial: {schedule: {name: stages, ratios: [0.5, 0.75, 1]}}
space: {schedule.ratios.1: {float: [0.5, 0.9]}}
""")
    assert space.config({"schedule.ratios.1": 0.625}).schedule.ratios == (0.5, 0.625, 1.0)


def test_a_whole_list_of_rules_may_be_a_choice(load):
    space = load("""
space:
  keep_float: {choice: [[], [stem], [stem, head]]}
  overrides:
    choice:
      - []
      - [{match: group1, quantizer: {name: uniform, bits: 2}}]
""")
    configs = {space.config(values) for values in corner_points(space)}
    assert {(len(config.keep_float), len(config.overrides)) for config in configs} == {
        (kept, own) for kept in (0, 1, 2) for own in (0, 1)
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bits: 8,", "bits: 7,"),
        ("match: stem", "match: group3"),
        ("[head]", "[head, group3]"),
        ("scale_steps: 1", "scale_steps: 2"),
        ("{name: lsq, bits: 4}", "{name: lsq}"),
        ("[2, 4, 8]", "[2, 4]"),
        ("when: {activation_bits: 4}", "when: {activation_bits: [4]}"),
        (
            ", when: {activation_bits: 4}",
            ", when: {activation_bits: 4, overrides.0.quantizer.bits: 4}",
        ),
    ],
)
def test_a_change_of_a_rule_changes_the_guard(load, old, new):
    assert MIXED.count(old) == 1
    before, after = load(MIXED), load(MIXED.replace(old, new))
    assert before.hash() != after.hash()
    assert before.guard() == load(MIXED.replace("{match: stem", "{match:  stem")).guard()


def test_what_guards_a_study_names_the_field_of_the_rule(load):
    assert load(MIXED).guard()["trial.overrides.0.quantizer.bits"] == 8
    flat = load(MIXED).config({}).flat()
    assert flat["overrides.1.quantizer.name"] == "lsq"
    assert flat["keep_float"] == ["head"]


def test_rules_are_checked_where_only_the_images_tell_their_size(load):
    text = "trial: {data: {name: image_folder, root: nowhere}, keep_float: [stem]}"
    assert load(text).config({}).rules == (LayerRule("stem", Float()),)
    with pytest.raises(ConfigError, match="'steam' matches no layer"):
        load(text.replace("stem", "steam"))


def test_names_are_those_of_modules():
    names = layer_names(ResNet("resnet8", 2), 1, (8, 8))
    assert (names[0], names[-1]) == ("stem", "head")
    assert "group2.0.shortcut.0" in names
    assert len(names) == 10


@pytest.mark.parametrize(("rules", "imported"), [("", False), (", keep_float: [stem]", True)])
def test_torch_is_imported_only_where_there_are_rules(tmp_path, rules, imported):
    path = tmp_path / "space.yaml"
    path.write_text(f"trial: {{seed: 1{rules}}}")
    code = (
        "import sys\nfrom pathlib import Path\nfrom sqtune.config import load_space\n"
        f"load_space(Path({str(path)!r}))\nprint('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert answer.stdout.strip() == str(imported)


def test_reading_a_space_with_rules_draws_no_random_number(load):
    import torch

    layer_names.cache_clear()
    state = torch.get_rng_state()
    load(MIXED)
    assert torch.equal(torch.get_rng_state(), state)

"""Weights and teachers that a space names are there, or the space is refused with their line."""

from __future__ import annotations

import pytest

from sqtune.config import load_space
from sqtune.errors import ConfigError


def refused(path, text: str, *overrides: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_space(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "field", "name"),
    [
        ("trial:\n  seed: 1\n  start: {weights: gone}\n", 3, "trial.start.weights", "gone"),
        ("trial:\n  start:\n    weights: gone.pt\n", 3, "trial.start.weights", "gone.pt"),
        ("trial:\n  start: {weights: ''}\n", 2, "trial.start.weights", ""),
        (
            "trial:\n  start: {weights: ~no.such.user/x}\n",
            2,
            "trial.start.weights",
            "~no.such.user/x",
        ),
        (
            "trial:\n  distillation:\n    weight: 0.5\n    teacher: gone.pt\n",
            4,
            "trial.distillation.teacher",
            "gone.pt",
        ),
        (
            "trial: {}\nspace:\n  seed: {choice: [1, 2]}\n"
            "  start: {choice: [null, {weights: gone}]}\n",
            4,
            "space.start",
            "gone",
        ),
        (
            "space:\n  distillation.teacher: {choice: [null, gone.pt]}\n",
            2,
            "space.distillation.teacher",
            "gone.pt",
        ),
    ],
)
def test_a_missing_path_is_refused_with_its_line(tmp_path, text, line, field, name):
    path = tmp_path / "space.yaml"
    message = refused(path, text)
    assert message.startswith(f"{path}:{line}: {field}: {name!r}: no such folder or file.")
    assert "folder that sqtune wrote" in message


@pytest.mark.parametrize("override", ["trial.start.weights=gone", "trial.start={weights: gone}"])
def test_a_missing_path_of_an_override_names_the_override(tmp_path, override):
    message = refused(tmp_path / "space.yaml", "trial: {}\n", override)
    assert message.startswith(f"--set {override}: ")
    assert "'gone': no such folder or file." in message


@pytest.mark.parametrize("override", ["trial.start.weights={}", "trial.start={{weights: {}}}"])
def test_a_path_that_is_there_is_taken_from_an_override_either_way(tmp_path, override):
    (tmp_path / "net").mkdir()
    (tmp_path / "space.yaml").write_text("trial: {seed: 1}\nspace: {seed: {choice: [1, 2]}}\n")
    space = load_space(tmp_path / "space.yaml", [override.format(tmp_path / "net")])
    assert space.config({}).start.weights == str(tmp_path / "net")


def test_soft_targets_without_a_teacher_are_refused_with_their_line(tmp_path):
    path = tmp_path / "space.yaml"
    fixed = refused(path, "trial:\n  seed: 1\n  distillation: {weight: 0.5}\n")
    assert fixed.startswith(f"{path}:3: trial.distillation: there is no teacher")
    searched = refused(path, "trial: {seed: 1}\nspace:\n  distillation.weight: {float: [0, 0.9]}\n")
    assert searched.startswith(f"{path}:3: space.distillation.weight: there is no teacher")


def test_a_teacher_that_only_some_schedules_give_is_found_missing_for_the_others(tmp_path):
    text = """
trial: {distillation: {weight: 0.5}}
space:
  schedule: {choice: [{name: average, warmup: 0.5}, {name: exponential}]}
"""
    assert "there is no teacher" in refused(tmp_path / "space.yaml", text)
    (tmp_path / "space.yaml").write_text(text.replace("exponential", "cubic, warmup: 0.2"))
    load_space(tmp_path / "space.yaml")

"""What to type next, behind every command: it can be typed, and says again what was typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import assert_parses, next_steps
from rich.console import Console
from search.studies import asked, new_store, opened, space_of

from sqtune.cli import main
from sqtune.next_steps import say_next, typed

NAME = "mein Versuch 语"
SPACE = f"""
name: {NAME}
trial: {{num_epochs: 2, network: {{name: resnet8, width: 2}}}}
space: {{optimizer.lr: {{choice: [0.05, 0.1, 0.2]}}}}
search: {{num_trials: 3}}
"""


@pytest.fixture
def store(tmp_path) -> Path:
    """Return a store with a study of one finished trial, one that failed and one interrupted."""
    places = new_store(tmp_path / "a store")
    study = opened(places, space_of(tmp_path, SPACE))
    first, second, third = asked(study), asked(study), asked(study)
    for epoch in (1, 2):
        study.report(first.number, epoch, {"train_loss": 2.0, "val_error": 0.25})
    study.finish(first.number, 0.25, {"size_bytes": 20_000, "num_validation": 449})
    study.fail(second.number, "RuntimeError: no")
    study.report(third.number, 1, {"train_loss": 2.0, "val_error": 0.5})
    log = places.log(NAME, second.number)
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1/2\n", encoding="utf-8")
    return places.root


def said(*arguments: object) -> str:
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert answer.exit_code == 0, answer.output
    return answer.output


@pytest.mark.parametrize(
    ("command", "following"),
    [
        (("show",), ["report", "best", "logs"]),
        (("show", NAME), ["report", "best", "logs"]),
        (("best", NAME), ["export"]),
        (("logs", 1), ["show"]),
        (("store",), ["show"]),
    ],
)
def test_a_look_at_a_study_says_what_to_type_next(store, monkeypatch, command, following):
    steps = next_steps(said(*command, "--store", store))
    assert [words[0] for words in steps] == following
    for words in steps:
        assert words[words.index("--store") + 1] == str(store)
        assert NAME in words or words[0] in ("store", "show")
        assert_parses(monkeypatch, words)


def test_what_is_exported_goes_to_a_folder_that_is_not_there(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for taken in ("deployed", "deployed-2", "deployed-3"):
        [words] = next_steps(said("best", NAME, "--store", store))
        assert words[-2:] == ["--out", taken]
        (tmp_path / taken).mkdir()


def test_json_is_all_that_is_printed_with_it(store):
    for command in (("show",), ("best",), ("logs", 1), ("store",)):
        answer = CliRunner().invoke(main, [*map(str, command), "--store", str(store), "--json"])
        json.loads(answer.stdout)
        assert answer.stderr == ""


def test_a_log_is_printed_as_it_stands_in_its_file(store):
    answer = CliRunner().invoke(main, ["logs", "1", "--store", str(store)])
    assert answer.stdout == "epoch 1/2\n"
    assert "next      sqtune show" in answer.stderr


def test_a_plan_and_a_training_repeat_the_space_and_its_changes(tmp_path, monkeypatch):
    space_of(tmp_path, SPACE)
    (tmp_path / "space.yaml").rename(tmp_path / "my space.yaml")
    words = ("--space", tmp_path / "my space.yaml", "--set", "trial.num_epochs=1")
    [search] = next_steps(said("plan", *words, "--store", tmp_path / "store"))
    assert search[:5] == ["search", *map(str, words)]
    assert search[5:] == ["--store", str(tmp_path / "store")]
    [train] = next_steps(said("train", *words))
    assert train == ["train", *map(str, words), "--out", "DIR"]
    for step in (search, train):
        assert_parses(monkeypatch, step)


@pytest.mark.parametrize(("width", "lines"), [(40, 4), (120, 2)])
def test_a_purpose_stands_below_its_command_where_there_is_no_room_beside_it(width, lines):
    out = Console(width=width, force_terminal=False)
    with out.capture() as capture:
        say_next(out, {"sqtune show resnet": "all trials", "sqtune best resnet": "the best of all"})
    assert len(capture.get().splitlines()) == lines
    assert next_steps(capture.get()) == [["show", "resnet"], ["best", "resnet"]]


def test_a_shell_that_does_not_know_sqtune_is_told_how_it_does(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("activate", "sqtune"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    out = Console(width=120, force_terminal=False)
    monkeypatch.setenv("SHELL", "/bin/zsh")
    for path, told in (("/nowhere", True), (str(tmp_path / "bin"), False)):
        monkeypatch.setenv("PATH", path)
        with out.capture() as capture:
            say_next(out, {"sqtune show": "all trials"})
        assert capture.get().startswith("next      source bin/activate ") is told
        assert next_steps(capture.get()) == [["show"]]
    monkeypatch.setenv("PATH", "/nowhere")
    for shell, script in (
        ("/usr/bin/fish", "activate.fish"),
        ("/bin/tcsh", "activate.csh"),
        ("", "activate"),
        ("/", "activate"),
        (None, "activate"),  # in containers and jobs
    ):
        monkeypatch.delenv("SHELL", raising=False)
        if shell is not None:
            monkeypatch.setenv("SHELL", shell)
        with out.capture() as capture:
            say_next(out, {"sqtune show": "all trials"})
        assert capture.get().startswith(f"next      source bin/{script} ")


def test_a_password_that_was_typed_is_not_said_again():
    words = ["--study-storage", "postgresql://me:secret@db.internal/studies"]
    with main.commands["show"].make_context("show", words):
        said_again = typed("study_storage")
    assert "postgresql://me:***@db.internal/studies" in said_again
    assert "secret" not in said_again

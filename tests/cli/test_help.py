"""What --help prints is for people, and can be typed."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from click.testing import CliRunner
from commands import assert_parses, examples, help_of, walk

from sqtune.cli import main
from sqtune.options import GROUPS

COMMANDS = [path for path, _ in walk()]
HEAVY = {"torch", "ray", "optuna", "mlflow", "pydantic", "numpy", "rich", "packaging", "sqlalchemy"}


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_stand_on_lines_of_their_own_and_exist(path):
    text = help_of(path)
    assert "\\b" not in text
    assert not [line for line in text.splitlines() if line.count("sqtune ") > 1]
    assert examples(text)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_example_can_be_typed(monkeypatch, path):
    for words in examples(help_of(path)):
        assert not path or words[: len(path)] == list(path)
        assert_parses(monkeypatch, words)


def test_an_example_with_an_option_that_is_none_would_be_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="No such option"):
        assert_parses(monkeypatch, ["show", "--wach"])
    with pytest.raises(Exception, match="--tirals"):
        assert_parses(
            monkeypatch, ["submit", "--space", "a", "--address", "http://h:1", "--tirals", "3"]
        )


@pytest.mark.parametrize("path", COMMANDS)
def test_no_line_is_wider_than_a_terminal(path):
    assert [line for line in help_of(path).splitlines() if len(line) > 80] == []


def test_the_list_of_commands_cuts_nothing_off_and_leaves_none_out():
    text = help_of(())
    listed = text.partition("Options:")[2]
    assert "..." not in listed, listed
    assert all(f"\n  {name} " in listed for name in main.commands)
    assert all(f"\n{title}:\n" in listed for title in GROUPS)


def test_a_help_text_is_more_than_a_word_or_two():
    for path, command in walk():
        for option in command.params:
            text = getattr(option, "help", None)
            assert text is None or (len(text.split()) > 2 and text.endswith(".")), (path, option)


def test_all_but_two_commands_take_json_as_the_cookbook_says():
    options = {name: {each.name for each in main.commands[name].params} for name in main.commands}
    assert {name for name in options if "as_json" not in options[name]} == {
        *("submit", "completion", "schema")  # whose answer is JSON anyway
    }
    assert "--store" not in help_of(("schema",))


def test_the_name_alone_says_where_to_begin():
    answer = CliRunner().invoke(main, [])
    assert answer.exit_code == 0
    assert answer.stdout == help_of(())
    assert "Begin with" in answer.stdout
    assert CliRunner().invoke(main, ["serach"]).exit_code == 2


def test_help_takes_less_than_half_a_second():
    """Of a core's time, which other processes do not change."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "sqtune", "--help"], check=True, timeout=60, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.5


@pytest.mark.parametrize("arguments", [[], ["--help"], ["search", "--help"], ["completion", "zsh"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom sqtune.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"heavy = {HEAVY!r} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, capture_output=True, check=False
    )
    assert not done.returncode, done.stderr

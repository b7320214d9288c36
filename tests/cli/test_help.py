"""What --help prints is for people."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sqtune.cli import main

COMMANDS = [(), *[(name,) for name in main.commands], ("store", "prune")]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_stand_on_lines_of_their_own(command):
    text = CliRunner().invoke(main, [*command, "--help"]).output
    assert "\\b" not in text
    examples = [line for line in text.splitlines() if line.count("sqtune ") > 1]
    assert not examples, examples


def test_an_example_is_a_line():
    lines = CliRunner().invoke(main, ["search", "--help"]).output.splitlines()
    assert "  sqtune search --space search_spaces/resnet.yaml" in lines


def test_the_list_of_commands_cuts_nothing_off():
    text = CliRunner().invoke(main, ["--help"]).output
    assert "..." not in text.partition("Commands:")[2]

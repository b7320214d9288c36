"""All commands of the command line, and what is printed to be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
from click.testing import CliRunner

from sqtune.cli import main

Path = tuple[str, ...]


def walk(command: click.Command = main, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Yield every command with the words by which it is called."""
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from walk(inner, (*path, name))


def help_of(path: Path) -> str:
    answer = CliRunner().invoke(main, [*path, "--help"])
    assert answer.exit_code == 0, answer.output
    return answer.output


def command_in(line: str) -> list[str]:
    """Return the words of a command that stands at a line's begin, with a remark behind blanks."""
    words = shlex.split(line.strip().partition("   ")[0].partition("  ")[0].partition(" > ")[0])
    assert words[0] == "sqtune", line
    return words[1:]


def examples(text: str) -> list[list[str]]:
    lines = map(str.strip, re.sub(r" \\\n *", " ", text).splitlines())
    return [command_in(line) for line in lines if line.startswith("sqtune ")]


def next_steps(output: str) -> list[list[str]]:
    """Return the commands that an output ends with."""
    lines = output.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("next      "))
    assert first >= len(lines) - 6, "more follows"
    shown = [line.removeprefix("next      ").strip() for line in lines[first:]]
    return [command_in(line) for line in shown if line.startswith("sqtune ")]


def assert_parses(monkeypatch, words: list[str]) -> None:
    """Let click parse a command whose body does nothing."""
    for _, command in walk():
        monkeypatch.setattr(command, "callback", lambda **_: None)
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, (words, answer.output)
    if words[0] == "submit":  # it hands on what it does not know
        search = main.commands["search"]
        own = main.commands["submit"].make_context("submit", words[1:])
        search.make_context("search", ["--space", "space.yaml", *own.params["more"]])

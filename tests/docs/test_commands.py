"""Every sqtune command in the documents has a name, options and values that exist."""

from __future__ import annotations

import shlex

import click
import pytest

from sqtune.cli import main

from .blocks import DOCUMENTS, ROOT, commands

ALL = [(document, line) for document in DOCUMENTS for line in commands(document)]
STAND_INS = {"FILE": "search_spaces/resnet.yaml", "S": "search_spaces/resnet.yaml", "HEAD": "head"}


def test_there_are_commands_to_look_at():
    assert len(ALL) > 40


@pytest.mark.parametrize(("document", "line"), ALL)
def test_a_command_of_a_document_parses(document, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    for end in ("|", ">", "&&"):
        words = words[: words.index(end)] if end in words else words
    words = [STAND_INS.get(word, word) for word in words[1:]]
    command: click.Command = main
    context = click.Context(main, info_name="sqtune")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{document}: there is no command {name}"
        command = found
    if isinstance(command, click.Group):
        return  # sqtune --help
    parser_errors: list[str] = []
    try:
        command.make_context(command.name, list(words))
    except click.UsageError as error:
        parser_errors.append(error.format_message())
    except click.exceptions.Exit:
        pass  # --help, --version
    missing_file = [text for text in parser_errors if "does not exist" in text]
    assert parser_errors == missing_file, f"{document}: {line}"

"""Every mistake in a space file is a ConfigError that names file, line, path, rule and remedy.

MISTAKES holds space files, each below its title. The line that a message must name bears `#!` and
how the message goes on after `FILE:LINE: `; further parts that it must hold follow after ` & `.
"""

from __future__ import annotations

import pytest

from sqtune.config import load_space
from sqtune.errors import ConfigError


def cases(mistakes):
    """Return one parameter per space file."""
    blocks = (block.split("\n", 1) for block in mistakes.split("== ")[1:])
    return [pytest.param(text, id=title) for title, text in blocks]


def assert_told(tmp_path, text):
    """Assert that loading names the line with `#!` and says what stands behind it."""
    path = tmp_path / "space.yaml"
    text = f"# no mistake stands in the first line\nname: study\n{text}"
    path.write_text(text)
    lines = {number: line for number, line in enumerate(text.splitlines(), 1) if "#!" in line}
    [(number, line)] = lines.items()
    beginning, *parts = line.split("#! ")[1].split(" & ")
    with pytest.raises(ConfigError) as caught:
        load_space(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{number}: {beginning}"), message
    assert all(part in message for part in parts), message

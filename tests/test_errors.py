"""The catalogue of errors: every message in the sources names a remedy, every class has its place.

What a message says at run time is tried where commands are typed: tests/cli/test_mistakes.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from remedies import IN_SOURCE

import sqtune
from sqtune import errors
from sqtune.errors import SqtuneError

ROOT = Path(sqtune.__file__).parent
HANDED_ON = re.compile(r"^[-\w.{}\[\]:' ]*\{\w*(error|message|str\(error\))\w*\}\.?$")
INNER = (  # stand within another message, which has the remedy
    *("has other layers here", "it holds numbers that are not finite", " has no run"),
    "has elements that are not finite",
)
RULE = re.compile(r", not \{|\bcannot be |never fall|no layer to quantize|its model is hybrid")
OF_CODE = (  # what calls them is code: the rule is enough
    *("quant/", "networks/spec.py", "deploy/trained_network.py", "deploy/integers/calibrate.py"),
)
OF_BENCHMARKS = "deploy/c/target.py"


class Message(NamedTuple):
    """What is raised somewhere.

    Attributes:
        place: Path and line.
        kind: The class.
        text: Its text; what is put in stands in braces.
    """

    place: str
    kind: str
    text: str


def classes(kind: type = SqtuneError) -> Iterator[type]:
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from classes(each)


def text_of(node: ast.expr) -> str:
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(map(text_of, node.values))
        case ast.FormattedValue():
            return f"{{{ast.unparse(node.value)}}}"
        case ast.BinOp():
            return text_of(node.left) + text_of(node.right)
    return f"{{{ast.unparse(node)}}}"


def messages() -> list[Message]:
    """Return what the sources raise, but what only hands another message on."""
    names = {each.__name__ for each in classes()}
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) and node.args else None
            if isinstance(called, ast.Name) and called.id in names:
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                found.append(Message(place, called.id, text_of(node.args[0])))
    return [
        each
        for each in found
        if not HANDED_ON.match(each.text)
        and not any(inner in each.text for inner in INNER)
        and not each.place.startswith(OF_BENCHMARKS)
    ]


MESSAGES = messages()


def test_every_class_is_drawn_in_the_tree_and_raised_somewhere():
    raised = {each.kind for each in MESSAGES}
    for kind in classes():
        assert kind.__doc__
        assert kind.__name__ in (errors.__doc__ or "") or kind is errors.WriteError
        assert kind.__name__ in raised
    assert len(MESSAGES) > 250


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: each.place)
def test_a_message_says_what_to_do(message):
    if message.place.startswith(OF_CODE):
        assert IN_SOURCE.search(message.text) or RULE.search(message.text), message.text
    else:
        assert IN_SOURCE.search(message.text), message.text

"""YAML text with places: plain data, and the line where each value stands."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sqtune.config.paths import Keys
from sqtune.errors import ConfigError
from sqtune.shipped import BEGIN

MOST_BITS = 1024  # of a whole number, which are 308 digits; Python prints no more than 4,300
UNSTORABLE = re.compile(r"[\0\ud800-\udfff]")  # NUL, and half a letter of UTF-16


class UnfitError(ValueError):
    """A value that no field can hold.

    Attributes:
        keys: Where it stands.
    """

    def __init__(self, keys: Keys, message: str) -> None:
        super().__init__(": ".join(filter(None, (".".join(map(str, keys)), message))))
        self.keys = keys


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A YAML mapping read from a file, or what a program gave in its place.

    Attributes:
        place: The file.
        content: Plain dicts, lists and scalars.
        text: As it was written.
    """

    place: str
    content: dict[str, Any]
    text: str
    _tree: CommentedMap

    def line(self, keys: Sequence[str | int]) -> int | None:
        """Return the line (from 1) of the deepest part of a path that the file has."""
        node: Any = self._tree
        line: int | None = None
        for key in keys:
            if isinstance(node, CommentedMap) and key in node:
                line = node.lc.key(key)[0] + 1
                node = node[key]
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line = node.lc.item(key)[0] + 1
                node = node[key]
        return line


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML 1.2 file that holds a mapping.

    Raises:
        ConfigError: It cannot be read, is not YAML, names a key twice or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file. Give --space the path of a space file; {BEGIN} writes one to "
            "begin with."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}. Give --space the path of a text file in UTF-8."
        ) from None
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        place = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else str(path)
        if isinstance(error, DuplicateKeyError):
            problem = (error.problem or "").split(" with value")[0]
            raise ConfigError(f"{place}: {problem}. Keep one of the two.") from None
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{place}: not valid YAML: {problem}. Check indentation.") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deep. Check its brackets.") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}. Check indentation.") from None
    except ValueError as error:  # a day that is none, a number of too many digits
        message = _not_read(error)
        raise ConfigError(f"{path}: {message}") from None
    if not isinstance(tree, CommentedMap):
        raise ConfigError(
            f"{path}: holds no mapping. A space file has the keys trial:, space:, search: and "
            "resources:."
        )
    try:
        return YamlFile(str(path), _plain(tree), text, tree)
    except UnfitError as error:
        line = YamlFile(str(path), {}, text, tree).line(error.keys)
        place = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"{place}: {error}") from None


def as_if_read(content: Mapping[str, Any]) -> YamlFile:
    """Return what a program gave instead of a file; its values have no lines.

    Tuples count as lists, paths as texts and numbers of numpy as numbers.
    """
    try:
        plain = _plain(content)
    except UnfitError as error:
        raise ConfigError(f"the given space: {error}") from None
    return YamlFile("the given space", plain, json.dumps(plain, indent=1), CommentedMap())


def parse_value(text: str) -> Any:
    """Return the plain data that a piece of YAML, such as the value of --set, stands for.

    Raises:
        ConfigError: It is not YAML.
    """
    try:
        return _plain(YAML(typ="rt", pure=True).load(text))
    except YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{text!r} is not a YAML value: {problem}. Write text in quotes, lists as [1, 2]."
        ) from None
    except UnfitError as error:
        raise ConfigError(str(error)) from None
    except ValueError as error:
        message = _not_read(error)
        raise ConfigError(message) from None


def as_yaml(content: Mapping[str, Any]) -> str:
    """Return plain data as YAML: what holds no mapping or list inside stands on a line."""
    yaml: Any = YAML(typ="safe", pure=True)
    written = io.StringIO()
    yaml.sort_base_mapping_type_on_output = False
    yaml.default_flow_style = None
    yaml.width = 100
    yaml.dump(dict(content), written)
    return written.getvalue()


def _plain(node: Any, keys: Keys = ()) -> Any:
    """Return ruamel's annotated data, or a program's, as plain dicts, lists and scalars.

    Raises:
        UnfitError: Something in it is none of these.
    """
    if isinstance(node, Mapping):
        return {str(key): _plain(value, (*keys, str(key))) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value, (*keys, index)) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, Integral):
        if int(node).bit_length() > MOST_BITS:
            raise UnfitError(keys, "a number of hundreds of digits: write a smaller one.")
        return int(node)
    if isinstance(node, Real):
        return float(node)
    if isinstance(node, bytes | bytearray | AbstractSet):
        raise UnfitError(keys, "bytes and sets are no values here: write a text, or a list.")
    text = str(node)  # dates are no values of ours
    if UNSTORABLE.search(text):
        raise UnfitError(keys, "holds a sign that no file or database takes: leave it out.")
    return text


def _not_read(error: ValueError) -> str:
    what = " ".join(str(error).partition("; use sys.")[0].split())
    return f"a value cannot be read: {what}. Write texts and dates in quotes, numbers shorter."

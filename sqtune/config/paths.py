"""Dotted paths into nested mappings and lists: `optimizer.lr`, `overrides.0.quantizer.bits`."""

from __future__ import annotations

import copy
import re
from typing import Any

Keys = tuple[str | int, ...]


class NoSuchEntryError(ValueError):
    """A path names an entry that a list does not have.

    Attributes:
        path: The whole path.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


def keys_of(path: str) -> Keys:
    """Return the keys of a dotted path; whole numbers count the entries of a list from 0.

    >>> keys_of("overrides.0.quantizer.bits")
    ('overrides', 0, 'quantizer', 'bits')
    """
    parts = path.split(".")
    # no list is as long as ten digits say, and Python reads no more than 4,300
    return tuple(int(part) if re.fullmatch("[0-9]{1,9}", part) else part for part in parts)


def get(tree: Any, keys: Keys) -> Any:
    """Return the value at a path.

    Raises:
        KeyError: There is none.
    """
    node = tree
    for key in keys:
        if isinstance(key, int):
            found = isinstance(node, list) and key < len(node)
        else:
            found = isinstance(node, dict) and key in node
        if not found:
            raise KeyError(".".join(map(str, keys)))
        node = node[key]
    return node


def put(tree: dict[str, Any], keys: Keys, value: Any) -> None:
    """Put a copy of a value at a path; mappings on the way are made, entries of lists are not.

    Another `name` than the one that stands there starts its mapping anew: the fields of one
    quantizer are not those of another.

    Raises:
        NoSuchEntryError: The path goes past the end of a list, or into one without an index.

    >>> tree = {"overrides": [{"quantizer": {"name": "uniform", "bits": 2}}]}
    >>> put(tree, keys_of("overrides.0.quantizer.name"), "binary")
    >>> tree
    {'overrides': [{'quantizer': {'name': 'binary'}}]}
    """
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        child = _at(node, keys, depth)
        if not isinstance(child, dict | list):
            child = node[key] = [] if isinstance(keys[depth + 1], int) else {}
        node = child
    leaf = keys[-1]
    before = _at(node, keys, len(keys) - 1)
    if leaf == "name" and before is not None and before != value:
        node.clear()
    node[leaf] = copy.deepcopy(value)  # a deeper path may write into it


def _at(node: Any, keys: Keys, depth: int) -> Any:
    """Return what a mapping or list has under `keys[depth]`; None where a mapping has nothing."""
    key = keys[depth]
    if isinstance(node, dict):
        return node.get(key)
    if isinstance(key, int) and key < len(node):
        return node[key]
    path, above = (".".join(map(str, part)) for part in (keys, keys[:depth]))
    if isinstance(key, int):
        there = f"it has {len(node)}, counted from 0" if node else "it is empty"
        remedy = f"{above} has no entry {key}: {there}. Write the entry into the list first."
    else:
        remedy = f"{above} is a list: name an entry by its index, such as {above}.0.{key}."
    raise NoSuchEntryError(remedy, path)

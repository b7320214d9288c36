"""Writes docs/space-reference.md from the schema of space files: `make reference`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqtune.config.schema import space_file_schema

PAGE = Path(__file__).with_name("space-reference.md")
HEAD = """# Every field of a space file

Made from the schema (`make reference`). [Space files](space-files.md) explains; this page lists.
A dotted path such as `optimizer.lr` is what `space:` and `--set trial.optimizer.lr=0.1` take.
"""
_ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w|\Z)", re.DOTALL | re.MULTILINE)
SECTIONS = {
    "TrialConfig": "trial",
    "SearchOptions": "search",
    "Target": "target",
    "StageOptions": "stages",
    "Resources": "resources",
    "Comparison": "compare",
}


def reference() -> str:
    """Return the page."""
    schema = space_file_schema()
    parts = [HEAD, "\n## Top level\n", *_table(schema, schema["properties"])]
    parts += ["\n## Parameters under `space:`\n"]
    for name in ("ChoiceParameter", "IntParameter", "FloatParameter"):
        parts += [f"\n### {_title(name)}\n", *_object(schema, name)]
    shown = {"ChoiceParameter", "IntParameter", "FloatParameter"}
    for section, key in SECTIONS.items():
        parts += [f"\n## Section `{key}`\n", *_object(schema, section)]
        shown.add(section)
        for inner in _reached(schema, section):
            if inner not in shown:
                shown.add(inner)
                parts += [f"\n### {_title(inner)}\n", *_object(schema, inner)]
    return "\n".join(parts) + "\n"


def _object(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    found = schema["$defs"][name]
    description, _, attributes = found.get("description", "").partition("\nAttributes:\n")
    yield f"{_text(description.partition('>>>')[0])}\n"
    meanings = dict(_ATTRIBUTE.findall(attributes.partition("\n\n")[0]))
    yield from _table(schema, found.get("properties", {}), meanings)


def _table(
    schema: Mapping[str, Any], fields: Mapping[str, Any], meanings: Mapping[str, str] | None = None
) -> Iterator[str]:
    yield "| field | values | default | |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        meaning = field.get("description", (meanings or {}).get(name, ""))
        cells = (f"`{name}`", _values(schema, field), _default(field), _text(meaning))
        yield f"| {' | '.join(cells)} |"


def _default(field: Mapping[str, Any]) -> str:
    if "const" in field or "default" not in field:
        return ""
    value = field["default"]
    if value is None:
        return "none"
    return (
        "see there"
        if isinstance(value, Mapping) and value
        else _code("{}")
        if isinstance(value, Mapping)
        else _code(value)
    )


def _values(schema: Mapping[str, Any], field: Mapping[str, Any]) -> str:
    """Return what a field takes, in a few words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        found = schema["$defs"][name]
        if "properties" in found:
            return f"[{_title(name)}](#{_anchor(name)})"
        return _values(schema, found) if found else "any value"
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " or ".join(dict.fromkeys(_values(schema, each) for each in field[several]))
    if "const" in field:
        return _code(field["const"])
    if "enum" in field:
        return ", ".join(map(_code, field["enum"]))
    kind = field.get("type")
    if kind == "array":
        items = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_values(schema, items)}"
    if kind == "object":
        return "mapping"
    names = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true, false",
        "null": "none",
    }
    return names.get(str(kind), "any value") + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
             "exclusiveMaximum": "below"}  # fmt: skip
    found = [f"{word} {field[key]:g}" for key, word in words.items() if key in field]
    return f" ({', '.join(found)})" if found else ""


def _named(field: Mapping[str, Any]) -> list[str]:
    """Return the definitions that a field refers to."""
    if "$ref" in field:
        return [field["$ref"].rpartition("/")[2]]
    inner = [*field.get("anyOf", ()), *field.get("oneOf", ()), field.get("items")]
    return [name for each in inner if isinstance(each, Mapping) for name in _named(each)]


def _reached(schema: Mapping[str, Any], name: str) -> Iterator[str]:
    for field in schema["$defs"][name].get("properties", {}).values():
        for inner in _named(field):
            if "properties" in schema["$defs"][inner]:
                yield inner
                yield from _reached(schema, inner)


def _title(name: str) -> str:
    return f"`{SECTIONS.get(name, name)}`"


def _anchor(name: str) -> str:
    return f"section-{SECTIONS[name]}" if name in SECTIONS else name.lower()


def _code(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


def _text(description: str) -> str:
    return " ".join(description.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")

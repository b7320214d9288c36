"""Messages: pydantic's findings as place, rule, value and remedy."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sqtune.config.parameters import PARAMETER_KINDS
from sqtune.config.paths import Keys
from sqtune.errors import did_you_mean


def explain(error: ValidationError, model: type[BaseModel]) -> tuple[Keys, str]:
    """Return the keys and the message of the first finding; what is missing comes last.

    A misspelled field is thus named rather than missed, and a number is measured by what holds for
    numbers. The keys are those of the data: names that pydantic adds for the members of a union are
    out.
    """

    def rank(found: ErrorDetails) -> tuple[bool, bool]:
        is_word = isinstance(found["input"], str)
        return found["type"] == "missing", found["type"] == "literal_error" and not is_word

    finding = min(error.errors(include_url=False), key=rank)
    keys, schema = _walk(model.model_json_schema(), finding["loc"])
    kind, context, value = finding["type"], finding.get("ctx", {}), finding["input"]
    known = list(schema.get("properties", {}))
    match kind:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return keys, f"no such field. {did_you_mean(str(keys[-1]), known)}"
        case "missing":
            return keys, "this field is needed and has no default: give it a value."
        case "literal_error":
            expected = context["expected"].replace(" or ", ", ")
            names = [name.strip(" '\"") for name in expected.split(",")]
            if not isinstance(value, str):  # 3 is not a misspelled 32
                return keys, f"{value!r} is unknown. Known are: {', '.join(names)}."
            if value in names and f"'{value}'" not in context["expected"]:
                return keys, f"{value!r} is a text, and a number is needed: write {value}."
            return keys, f"{value!r} is unknown. {did_you_mean(value, names)}"
        case "union_tag_invalid" if context["discriminator"] == "'name'":
            names = [name.strip(" '") for name in context["expected_tags"].split(",")]
            tag = context["tag"]
            return (*keys, "name"), f"{tag!r} is unknown. {did_you_mean(tag, names)}"
        case "union_tag_not_found" if context["discriminator"] == "'name'":
            return keys, "a mapping with a name is needed here, such as {name: ...}."
        case "union_tag_not_found" | "union_tag_invalid":
            return keys, (
                f"a parameter has exactly one of {', '.join(PARAMETER_KINDS)}, "
                "for example {choice: [a, b]}, {int: [2, 8]} or {float: [0.01, 0.3], log: true}."
            )
        case "model_type" | "model_attributes_type" | "dict_type" | "dataclass_type":
            return keys, f"a mapping is needed here, such as {{field: value}}, not {value!r}."
        case "tuple_type" | "list_type":
            shown = "a mapping" if isinstance(value, dict) else repr(value)
            return keys, f"a list is needed here, such as [a, b], not {shown}."
        case "too_short" if isinstance(value, list | tuple):
            return keys, f"a list of at least {_items(context['min_length'])} is needed here."
        case "value_error":
            return keys, str(context["error"])
    message = finding["msg"].replace("Input should be", "must be")
    shown = "" if isinstance(value, dict | list) else f", not {value!r}"
    return keys, f"{message}{shown}."


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _walk(schema: dict[str, Any], loc: Keys) -> tuple[Keys, dict[str, Any]]:
    """Follow a location through a JSON schema; return the keys and the last mapping's schema."""
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node or "anyOf" in node:
            if "$ref" in node:
                node = definitions[node["$ref"].rsplit("/", 1)[-1]]
            else:  # a value or null
                node = next(part for part in node["anyOf"] if part.get("type") != "null")
        return node

    node = schema
    keys: list[str | int] = []
    mapping_schema = schema
    for part in loc:
        node = resolve(node)
        branches = node.get("discriminator", {}).get("mapping", {})
        if part in branches and part not in node.get("properties", {}):
            node = mapping_schema = resolve({"$ref": branches[part]})
            continue
        if part in PARAMETER_KINDS and keys[:1] == ["space"] and len(keys) == 2 and "oneOf" in node:
            node = mapping_schema = resolve(node["oneOf"][PARAMETER_KINDS.index(str(part))])
            continue
        if "const" in node or node.get("type") in ("number", "integer", "string"):
            continue  # which member of a union it is
        keys.append(part)
        if "properties" in node:
            mapping_schema = node
            node = node["properties"].get(part, {})
        elif isinstance(part, int):
            node = node.get("items", {}) if isinstance(node.get("items"), dict) else {}
        else:
            extra = node.get("additionalProperties")
            node = extra if isinstance(extra, dict) else {}
    return tuple(keys), mapping_schema

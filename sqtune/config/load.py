"""Space files: text -> SearchSpace. Every mistake surfaces here, before anything trains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sqtune.config.check import problems
from sqtune.config.messages import explain
from sqtune.config.options import SearchOptions
from sqtune.config.paths import Keys, NoSuchEntryError, keys_of, put
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.config.yaml_file import YamlFile, as_if_read, parse_value, read_yaml
from sqtune.errors import ConfigError, did_you_mean

WHOLE = ("name", "points", "compare", "target")  # sections that an override may put in as a whole
HOMES = {  # of fields whose section was left out
    "trial": TrialConfig.model_fields,
    "search": SearchOptions.model_fields,
}


Source = Path | Mapping[str, Any]  # a space file, or its content
NAMELESS = "study"  # the name of what has none


def load_space(
    source: Source, overrides: Sequence[str] = (), told: Mapping[str, str] | None = None
) -> SearchSpace:
    """Read and check a space file.

    Args:
        source: The YAML file, or what would be in it.
        overrides: `PATH=VALUE` each, the path starting with a section of the file, the value as
            YAML. A fixed value takes the place of a searched one, and of its values in points;
            points that have another one there are left out.
        told: How overrides were given that were not given by --set, for messages.

    Raises:
        ConfigError: Something breaks a rule; the message names place, rule and remedy.
    """
    file = read_yaml(source) if isinstance(source, Path) else as_if_read(source)
    content = {"name": source.stem if isinstance(source, Path) else NAMELESS, **file.content}
    given = [(text, (told or {}).get(text, f"--set {text}")) for text in overrides]
    origin = {shown: _override(content, text, shown) for text, shown in given}
    try:
        space = SearchSpace.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise _located(file, origin, explain(error, SearchSpace)) from None
    except ValueError as error:  # json: NaN, infinity
        raise ConfigError(f"{file.place}: {error}") from None
    for problem in problems(space):
        raise _located(file, origin, problem)
    return space


def space_text(source: Source) -> str:
    """Return a space file's text; of a program's content, JSON, which is YAML too."""
    return (read_yaml(source) if isinstance(source, Path) else as_if_read(source)).text


def _override(content: dict[str, Any], text: str, shown: str) -> Keys:
    """Put `PATH=VALUE`, which messages show as it was given, into the content; return its keys."""
    path, equals, value = text.partition("=")
    section, _, rest = path.strip().partition(".")
    sections = list(SearchSpace.model_fields)
    for home, fields in HOMES.items():
        if equals and section in fields and section not in sections:
            raise ConfigError(f'{shown}: no such section. Did you mean "{home}.{path}"?')
    if not equals or not section or (section not in WHOLE and not rest):
        raise ConfigError(
            f"{shown}: an override is PATH=VALUE: write for example --set trial.num_epochs=2."
        )
    if section not in sections:
        raise ConfigError(f"{shown}: no such section. {did_you_mean(section, sections)}")
    try:
        parsed = parse_value(value)
    except ConfigError as error:
        raise ConfigError(f"{shown}: {error}") from None
    if not rest:
        content[section] = parsed
        return (section,)
    keys = (section, *((rest,) if section == "space" else keys_of(rest)))
    try:
        put(content, keys, parsed)
    except NoSuchEntryError as error:
        raise ConfigError(f"{shown}: {error}") from None
    if section == "trial" and _given_by_all_methods(content.get("compare"), rest):
        raise ConfigError(
            f"{shown}: every method under compare: has its own {rest}, so this would change "
            "nothing. Change the methods: --set compare.methods=[...], or the file."
        )
    if section == "trial" and isinstance(content.get("space"), dict):
        for searched in list(content["space"]):
            if searched == rest or searched.startswith(f"{rest}."):
                del content["space"][searched]
    if section == "trial" and isinstance(content.get("points"), list):
        content["points"] = [
            kept for point in content["points"] if (kept := _still(point, rest, parsed)) is not None
        ]
    return keys


def _given_by_all_methods(compare: Any, path: str) -> bool:
    """Tell whether every method of a comparison has a value of its own at a path or around it."""
    methods = compare.get("methods") if isinstance(compare, dict) else None
    if not isinstance(methods, list) or not methods:
        return False
    given = [method.get("values") if isinstance(method, dict) else None for method in methods]
    return all(
        isinstance(values, dict) and any(f"{path}.".startswith(f"{own}.") for own in values)
        for values in given
    )


def _still(point: Any, path: str, value: Any) -> Any:
    """Return what is left of a point once a path is fixed; None where it has another value there.

    Such a point does not belong to the space any more.
    """
    if not isinstance(point, dict):
        return point
    overlaps = any(f"{other}.".startswith(f"{path}.") for other in point if other != path)
    inside = any(path.startswith(f"{other}.") for other in point)
    if overlaps or inside or point.get(path, value) != value:
        return None
    return {other: given for other, given in point.items() if other != path}


def _located(file: YamlFile, origin: dict[str, Keys], problem: tuple[Keys, str]) -> ConfigError:
    """Return an error that names file and line, or the override that brought the value in."""
    keys, message = problem
    dotted = ".".join(str(key) for key in keys)
    for override, path in origin.items():
        shared = min(len(path), len(keys))
        if shared and path[:shared] == keys[:shared]:
            inside = ".".join(str(key) for key in keys[len(path) :])
            return ConfigError(f"{override}: {f'{inside}: ' if inside else ''}{message}")
    line = file.line(keys)
    place = f"{file.place}:{line}" if line else file.place
    return ConfigError(f"{place}: {dotted}: {message}" if dotted else f"{place}: {message}")

"""Space files: text -> SearchSpace. Every mistake surfaces here, before anything trains."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sqtune.config.messages import explain
from sqtune.config.space import ChoiceParameter, Parameter, SearchSpace, label
from sqtune.config.trial import TrialConfig
from sqtune.config.yaml_file import YamlFile, parse_value, read_yaml
from sqtune.data import known_image_size
from sqtune.errors import ConfigError, NetworkError, did_you_mean
from sqtune.networks import check_image_size

MOST_COMBINATIONS = 5_000  # of structural choices that are checked; a larger space is sampled


def load_space(path: Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """Read and check a space file.

    Args:
        path: The YAML file.
        overrides: `PATH=VALUE` each, the path starting with trial, space, search, resources or
            name, the value as YAML. A fixed value takes the place of a searched one.

    Raises:
        ConfigError: Something breaks a rule; the message names place, rule and remedy.
    """
    file = read_yaml(path)
    content = {"name": path.stem, **file.content}
    origin = {name: _override(content, name) for name in overrides}
    try:
        space = SearchSpace.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise _located(file, origin, explain(error, SearchSpace)) from None
    except ValueError as error:  # json: NaN, infinity
        raise ConfigError(f"{path}: {error}") from None
    _check_conditions(space, file, origin)
    _check_configurations(space, file, origin)
    return space


def _override(content: dict[str, Any], text: str) -> tuple[str, ...]:
    """Put `PATH=VALUE` into the content; return its keys."""
    path, equals, value = text.partition("=")
    section, _, rest = path.strip().partition(".")
    if not equals or not section or (section != "name" and not rest):
        raise ConfigError(
            f"--set {text}: an override is PATH=VALUE, for example --set trial.num_epochs=2."
        )
    sections = list(SearchSpace.model_fields)
    if section not in sections:
        raise ConfigError(f"--set {text}: no such section. {did_you_mean(section, sections)}")
    try:
        parsed = parse_value(value)
    except ConfigError as error:
        raise ConfigError(f"--set {text}: {error}") from None
    if section == "name":
        content["name"] = parsed
        return ("name",)
    keys = [rest] if section == "space" else rest.split(".")
    node = content
    for key in [section, *keys[:-1]]:
        child = node.get(key)
        if not isinstance(child, dict):
            child = node[key] = {}
        node = child
    if keys[-1] == "name" and node.get("name", parsed) != parsed:
        node.clear()  # the fields of one quantizer are not those of another
    node[keys[-1]] = parsed
    if section == "trial" and isinstance(content.get("space"), dict):
        for searched in list(content["space"]):
            if searched == rest or searched.startswith(f"{rest}."):
                del content["space"][searched]
    return (section, *keys)


def _located(
    file: YamlFile, origin: dict[str, tuple[str, ...]], problem: tuple[tuple[str | int, ...], str]
) -> ConfigError:
    """Return an error that names file and line, or the override that brought the value in."""
    keys, message = problem
    dotted = ".".join(str(key) for key in keys)
    for override, path in origin.items():
        shared = min(len(path), len(keys))
        if shared and path[:shared] == keys[:shared]:
            return ConfigError(f"--set {override}: {message}")
    line = file.line(keys)
    place = f"{file.path}:{line}" if line else str(file.path)
    return ConfigError(f"{place}: {dotted}: {message}" if dotted else f"{place}: {message}")


def _check_conditions(
    space: SearchSpace, file: YamlFile, origin: dict[str, tuple[str, ...]]
) -> None:
    for path, parameter in space.space.items():
        for other, wanted in parameter.when.items():
            keys = ("space", path, "when", other)
            if other not in space.space:
                try:
                    space.fixed(other)
                except KeyError:
                    known = [name for name in space.space if name != path]
                    message = (
                        f"this condition is on a parameter that is neither searched nor fixed. "
                        f"{did_you_mean(other, known)}"
                    )
                    raise _located(file, origin, (keys, message)) from None
                continue
            for value in wanted if isinstance(wanted, list) else [wanted]:
                remedy = _never(space.space[other], value)
                if remedy:
                    message = (
                        f"{value!r} is not among the values of {other}, so the condition can "
                        f"never hold. {remedy}"
                    )
                    raise _located(file, origin, (keys, message))
    try:
        space.order()
    except ValueError as error:
        raise _located(file, origin, (("space",), str(error))) from None


def _never(parameter: Parameter, value: Any) -> str | None:
    """Return a remedy where a parameter can never have a value; None where it can."""
    if isinstance(parameter, ChoiceParameter):
        known = [label(choice) for choice in parameter.choice]
        return None if value in parameter.choice else did_you_mean(label(value), known)
    low, high = parameter.bounds
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return None if fits else f"They lie from {low} to {high}."


def _check_configurations(
    space: SearchSpace, file: YamlFile, origin: dict[str, tuple[str, ...]]
) -> None:
    """Build the configurations that together show every way the space can be wrong."""
    for values in corner_points(space):
        try:
            config = space.config(values)
        except ValidationError as error:
            raise _located(file, origin, _in_space(values, error)) from None
        size = known_image_size(config.data)
        if size is not None:
            try:
                check_image_size(config.network, *size)
            except NetworkError as error:
                keys = _home(values, ("data",))
                raise _located(file, origin, (keys, str(error))) from None
        named = {("distillation", "teacher"): config.distillation.teacher}
        if config.start is not None:
            named["start", "weights"] = config.start.weights
        for field, path in named.items():
            if path is not None and not (path and Path(path).expanduser().exists()):
                message = (
                    f"{path!r}: no such folder or file. Give a folder that sqtune wrote, or a file "
                    "with a state_dict."
                )
                raise _located(file, origin, (_home(values, field), message))


def _in_space(values: dict[str, Any], error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    keys, message = explain(error, TrialConfig)
    home = _home(values, keys)
    chosen = [
        f"{path}={value}"
        for path, value in values.items()
        if path == f"{keys[0]}.name" and home[-1] != path
    ]
    with_values = f" (with {', '.join(chosen)})" if chosen else ""
    return home, f"{message}{with_values}"


def _home(values: dict[str, Any], keys: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return where in the file a part of the trial's configuration comes from."""
    dotted = ".".join(str(key) for key in keys)
    for path in values:  # the value itself, or what holds it
        if dotted == path or dotted.startswith(f"{path}."):
            return ("space", path)
    for path in values:  # a rule that looks at the whole part in which the value stands
        if path.startswith(f"{dotted}."):
            return ("space", path)
    return ("trial", *keys)


def corner_points(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield sampled values that together show every way a configuration can be wrong.

    All combinations of the structural choices (names, mappings and what conditions depend on); with
    each of them every other parameter at its first value, all at their last, and each one alone.
    """
    structural = {other for parameter in space.space.values() for other in parameter.when} | {
        path
        for path, parameter in space.space.items()
        if isinstance(parameter, ChoiceParameter)
        and (path.endswith(".name") or any(isinstance(value, dict) for value in parameter.choice))
    }
    for values in itertools.islice(_branches(space, structural, {}), MOST_COMBINATIONS):
        yield dict(values)
        free = [path for path in values if path not in structural]
        yield {**values, **{path: space.space[path].samples()[-1] for path in free}}
        for path in free:
            for sample in space.space[path].samples()[1:]:
                yield {**values, path: sample}


def _branches(
    space: SearchSpace, structural: set[str], values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for path, parameter in space.active(values):
        if path in values:
            continue
        samples = parameter.samples()
        if path in structural:
            for sample in samples:
                yield from _branches(space, structural, {**values, path: sample})
            return
        values[path] = samples[0]
    yield values

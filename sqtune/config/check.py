"""What of a space only shows when its conditions and its configurations are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from sqtune.config.compared import cells
from sqtune.config.corners import corner_points
from sqtune.config.grid import NO_GRID, endless
from sqtune.config.layers import useless_rule
from sqtune.config.messages import explain
from sqtune.config.parameters import (
    ChoiceParameter,
    FloatParameter,
    IntParameter,
    no_value_of,
)
from sqtune.config.paths import Keys, NoSuchEntryError
from sqtune.config.point_check import wrong_points
from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig
from sqtune.data import known_image_size
from sqtune.errors import ConfigError, NetworkError, did_you_mean
from sqtune.files import expanded
from sqtune.networks import Factory, check_image_size

MOST_STEPS = 1_000_000  # of a range: its values are listed
MOST_WHOLE = 2**53  # beyond it floats, in which samplers reckon, leave whole numbers out
OTHER_LOSSES = ("distillation", "regularization")  # fields that change what is optimised


def problems(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    """Yield what is wrong: the keys of its place in the space file, and the message.

    What follows a problem may rest on it: only the first one is sure.
    """
    yield from _wrong_names(space)
    yield from _too_many_values(space)
    yield from _wrong_conditions(space)
    yield from _other_losses(space)
    yield from _endless_grid(space)
    yield from _no_points(space)
    yield from _wrong_comparison(space)
    for values in corner_points(space):
        yield from _wrong_configuration(space, values)
    yield from wrong_points(space, _wrong_configuration)


def _wrong_names(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    """Yield names that could not be seen or typed."""
    names: dict[Keys, str] = {("name",): space.name}
    for index, method in enumerate(space.compare.methods if space.compare else ()):
        names["compare", "methods", index, "name"] = method.name
    for keys, name in names.items():
        if not name.strip():
            yield keys, "a name of blanks alone cannot be seen: give it a letter."
    if space.name.startswith("-"):
        yield (
            ("name",),
            f"{space.name!r} would be read as an option where it is typed: let it begin with "
            'another sign than "-".',
        )


def _too_many_values(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    """Yield ranges whose values cannot be listed, or not be told apart by a sampler."""
    for path, parameter in space.space.items():
        low, high = parameter.bounds if not isinstance(parameter, ChoiceParameter) else (0, 0)
        if isinstance(parameter, IntParameter) and max(-low, high) > MOST_WHOLE:
            yield (
                ("space", path, "int"),
                f"samplers tell whole numbers apart up to {MOST_WHOLE} (2 to the power of 53): "
                "write a smaller one.",
            )
        step = parameter.step if isinstance(parameter, FloatParameter) else None
        if step is not None and (high - low) / step >= MOST_STEPS:
            yield (
                ("space", path, "step"),
                f"steps of {step:g} from {low:g} to {high:g} are more than {MOST_STEPS:,}: write a "
                "larger one, or leave it out: then every number is a value.",
            )


def _other_losses(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    """Yield where early stopping would compare losses of which each trial has another."""
    early = space.search.early_stopping
    searched = [path for path in space.space if path.split(".")[0] in OTHER_LOSSES]
    if early.name != "none" and early.metric == "train_loss" and searched:
        yield (
            ("search", "early_stopping"),
            f"trials are compared by their training loss, and {searched[0]} gives each another "
            "one. Compare by metric: val_error, or fix it.",
        )


def _endless_grid(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    if space.search.sampler == "grid":
        for path in endless(space):
            yield ("space", path), NO_GRID


def _no_points(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    if space.search.sampler == "points" and not space.points:
        yield (
            ("search", "sampler"),
            "the sampler points tries what stands under points:, and nothing does. Write points, "
            "or take another sampler, such as tpe.",
        )


def _wrong_comparison(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    """Yield what is wrong with the methods of a comparison."""
    if space.compare is None:
        return
    for section in ("space", "points"):
        if getattr(space, section):
            yield (
                (section,),
                "methods that are compared are fixed, so nothing is searched beside them: take "
                f"{section}: out, or compare:.",
            )
            return
    numbers = {method.name: index for index, method in enumerate(space.compare.methods)}
    try:
        yield from _wrong_configuration(space, {})
        compared = list(cells(space))
    except ConfigError as error:
        yield ("compare", "methods"), str(error)
        return
    for method, _, values in compared:
        home: Keys = ("compare", "methods", numbers[method.name], "values")
        for keys, message in _wrong_configuration(space, values):
            path = ".".join(map(str, keys if keys[0] != "space" else keys[1:]))
            yield home, f"{path}: {message}"


def _wrong_conditions(space: SearchSpace) -> Iterator[tuple[Keys, str]]:
    for path, parameter in space.space.items():
        for other, wanted in parameter.when.items():
            keys = ("space", path, "when", other)
            if other not in space.space:
                try:
                    space.fixed(other)
                except KeyError:
                    known = [name for name in space.space if name != path]
                    yield (
                        keys,
                        "this condition is on a parameter that is neither searched nor fixed. "
                        f"{did_you_mean(other, known)}",
                    )
                continue
            for value in wanted if isinstance(wanted, list) else [wanted]:
                remedy = no_value_of(space.space[other], value)
                if remedy:
                    yield (
                        keys,
                        f"{value!r} is not among the values of {other}, so the condition can "
                        f"never hold. {remedy}",
                    )
    try:
        space.order()
    except ValueError as error:
        yield ("space",), str(error)


def _wrong_configuration(space: SearchSpace, values: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    try:
        config = space.config(values)
    except NoSuchEntryError as error:
        yield ("space", error.path), str(error)
        return
    except ValidationError as error:
        keys, message = explain(error, TrialConfig)
        home = _home(values, keys)
        yield home, f"{message}{_chosen(values, keys, home)}"
        return
    try:
        size = known_image_size(config.data)
        if size is not None:
            check_image_size(config.network, *size)
            config.regularization.check_image_size(*size)
    except NetworkError as error:
        yield _home(values, ("data",)), str(error)
        return
    except ConfigError as error:
        yield _home(values, ("regularization", "cutout")), str(error)
        return
    if config.regularization.mixup > 0 and config.batch_size == 1:
        yield (
            _home(values, ("regularization", "mixup")),
            "a batch of one image has nothing to be mixed with: give batch_size 2 or more.",
        )
        return
    if isinstance(config.network, Factory):
        from sqtune.networks.by_factory import FIELD, check_factory

        try:
            check_factory(config.network)
        except ConfigError as error:
            yield _home(values, ("network", "factory")), str(error).removeprefix(f"{FIELD}: ")
            return
    try:
        useless = useless_rule(config)
    except NetworkError as error:
        yield _home(values, ("network",)), str(error)
        return
    if useless is not None:
        keys, message = useless
        home = _home(values, keys)
        yield home, f"{message}{_chosen(values, ('network',), home)}"
    root = getattr(config.data, "root", None)
    if root is not None and not root.strip():
        yield (
            _home(values, ("data", "root")),
            "names no folder: give one; the one you are in is called . (a point).",
        )
    named: dict[Keys, str | None] = {("distillation", "teacher"): config.distillation.teacher}
    if config.start is not None:
        named["start", "weights"] = config.start.weights
    for field, path in named.items():
        if path is not None and not (path and _exists(path)):
            yield (
                _home(values, field),
                f"{path!r}: no such folder or file. Give a folder that sqtune wrote, or a file "
                "with a state_dict.",
            )


def _exists(path: str) -> bool:
    try:
        return expanded(path).exists()
    except ConfigError:  # of nobody's home folder
        return False


def _chosen(values: dict[str, Any], keys: Keys, home: Keys) -> str:
    """Return the sampled names on which it depends what fits, but for the home itself."""
    names = {".".join(map(str, (*keys[:depth], "name"))) for depth in range(1, len(keys) + 1)}
    chosen = [
        f"{path}={value}" for path, value in values.items() if path in names and path != home[-1]
    ]
    return f" (with {', '.join(chosen)})" if chosen else ""


def _home(values: dict[str, Any], keys: Keys) -> Keys:
    """Return where in the file a part of the trial's configuration comes from."""
    dotted = ".".join(str(key) for key in keys)
    for path in values:  # the value itself, or what holds it
        if dotted == path or dotted.startswith(f"{path}."):
            return ("space", path)
    for path in values:  # a rule that looks at the whole part in which the value stands
        if path.startswith(f"{dotted}."):
            return ("space", path)
    return ("trial", *keys)

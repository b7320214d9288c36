"""What a configuration names in somebody's own code: "mypackage.nets:build" and its arguments."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from sqtune.errors import ConfigError, did_you_mean


class Args(dict[str, Any]):
    """Arguments as a configuration gives them: plain data that JSON can hold; frozen, hashable.

    It is a dict, so that `dataclasses.asdict`, `json` and pydantic take it as one; lists in it are
    tuples. Two are equal where they are the same JSON, so 1, 1.0 and true differ.

    Raises:
        ValueError: Something in it is no plain data.

    >>> Args({"depths": [1, 2]}), hash(Args(a=1)) == hash(Args(a=1)), Args(a=1) == Args(a=1.0)
    ({'depths': (1, 2)}, True, False)
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(*values, **named)
        _check_plain(given, "args")
        super().__init__({key: _frozen(value) for key, value in given.items()})

    def plain(self) -> dict[str, Any]:
        """Return new dicts and lists of it, which their receiver may change."""
        plain: dict[str, Any] = json.loads(json.dumps(self))
        return plain

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict):
            return NotImplemented
        try:
            return json.dumps(self, sort_keys=True) == json.dumps(other, sort_keys=True)
        except TypeError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __reduce__(self) -> tuple[type[Args], tuple[dict[str, Any]]]:
        return Args, (dict(self),)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the arguments of a configuration do not change.")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = _refuse
    __ior__ = _refuse


def _check_plain(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for key, inside in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place}: names of arguments are text, not {key!r}.")
            _check_plain(inside, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for position, inside in enumerate(value):
            _check_plain(inside, f"{place}.{position}")
    elif isinstance(value, float) and value - value != 0:
        raise ValueError(f"{place} is a finite number, not {value}.")
    elif not isinstance(value, str | int | float | bool | None):
        raise ValueError(
            f"{place} is {type(value).__name__}: give plain data (text, numbers, true or false, "
            "lists, mappings)."
        )


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return Args(value)
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return value


def check_name(text: str) -> None:
    """Raise ValueError where a text does not have the form "package.module:function"."""
    module, colon, attribute = text.partition(":")
    names = [*module.split("."), *attribute.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        raise ValueError(
            f'{text!r} names no function: write "package.module:function", such as '
            '"mypackage.nets:build".'
        )


def load_callable(text: str, field: str) -> Callable[..., Any]:
    """Import what "package.module:function" names; the working directory is looked at last.

    Args:
        text: The name.
        field: Where it stands, for messages: "trial.network.factory".

    Raises:
        ConfigError: There is no such module or function, or importing it fails.
    """
    try:
        check_name(text)
    except ValueError as error:
        raise ConfigError(f"{field}: {error}") from None
    module_name, _, path = text.partition(":")
    found: Any = _imported(module_name, field)
    for name in path.split("."):
        if not hasattr(found, name):
            known = [each for each in vars(found) if callable(getattr(found, each, None))]
            where = getattr(found, "__file__", None) or module_name
            raise ConfigError(f"{field}: {where} has no {name!r}. {did_you_mean(name, known)}")
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(
            f"{field}: {text} is {type(found).__name__}, which cannot be called. Name a function "
            "or a class."
        )
    called: Callable[..., Any] = found
    return called


def _imported(name: str, field: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # for good: what is imported may import more when it is called
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{field}: importing {name} failed: {last_line(error)}.") from error
        raise ConfigError(
            f"{field}: there is no module {error.name} among the installed packages, nor in the "
            f"working directory, {here}. Install it, or give the command where it lies."
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{field}: importing {name} failed: {last_line(error)}.") from error


def call_arguments(
    function: Callable[..., Any], args: Mapping[str, Any], offered: Mapping[str, Any], field: str
) -> dict[str, Any]:
    """Return what a function is called with: `args`, and what is offered where it takes it.

    It takes what its signature names, and everything if that has a `**`. What `args` gives comes
    before what is offered.

    Raises:
        ConfigError: The signature does not take `args`, or asks for more.
    """
    plain = Args(args).plain()
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of compiled code, which shows when it is called
        return plain
    takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    taken = {
        name: value for name, value in offered.items() if takes_all or name in _named(signature)
    }
    arguments = {**taken, **plain}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigError(
            f"{field}: {name}{signature} does not take its arguments, which are "
            f"{', '.join(arguments) or 'none'}: {error}. Mend `args`, or the function."
        ) from None
    return arguments


def _named(signature: inspect.Signature) -> set[str]:
    parameters = signature.parameters.values()
    return {
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }


def last_line(error: BaseException) -> str:
    """Return an error as the end of its traceback shows it, and where it was raised.

    >>> try: 1 / 0
    ... except ZeroDivisionError as error: last_line(error).split(" (")[0]
    'ZeroDivisionError: division by zero'
    """
    what = traceback.format_exception_only(error)[-1].strip().rstrip(".")
    if isinstance(error, SyntaxError):
        return f"{what} ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename != __file__
    ]
    if not frames or frames[-1].filename == importlib.__file__:
        return what
    return f"{what} ({frames[-1].filename}:{frames[-1].lineno})"


@lru_cache(maxsize=64)
def source_sha256(text: str, field: str) -> str:
    """Return the sha256 of the source that "package.module:function" stands in.

    That is every .py file of the top package, or the one file of a module outside packages. It is
    taken once in a process, which does not see later changes either.

    Raises:
        ConfigError: As `load_callable`.
    """
    load_callable(text, field)
    module_name = text.partition(":")[0]
    module, top = sys.modules[module_name], sys.modules[module_name.partition(".")[0]]
    digest = hashlib.sha256()
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    files = [(file, file.relative_to(root)) for root in folders for file in root.rglob("*.py")]
    if not files and getattr(module, "__file__", None):
        file = Path(str(module.__file__))
        files = [(file, Path(file.name))]
    for file, name in sorted(files, key=lambda pair: pair[1]):
        digest.update(f"{name.as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()

"""What a search was asked to do: a space, with what was said beside it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from sqtune.config.load import Source, load_space
from sqtune.config.space import SearchSpace
from sqtune.errors import ConfigError


def asked_space(
    source: Source,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    num_trials: int | None = None,
    max_concurrent: int | None = None,
    time_limit_seconds: float | None = None,
    target_error: float | None = None,
    in_code: bool = False,
) -> SearchSpace:
    """Read and check what is to be searched.

    Args:
        source: The space file, or its content.
        overrides: `PATH=VALUE` each, as `load_space` takes them.
        name: Of the study, in place of the source's.
        num_trials: In place of search.num_trials.
        max_concurrent: In place of search.max_concurrent.
        time_limit_seconds: In place of search.time_limit_seconds.
        target_error: In place of search.target_error (0..1).
        in_code: Whether a program gave them, not the command line: messages name its arguments.

    Raises:
        ConfigError: Something breaks a rule, or there is nothing to search.
    """
    beside = {
        "trials": ("search.num_trials", num_trials),
        "concurrent": ("search.max_concurrent", max_concurrent),
        "time_limit": ("search.time_limit_seconds", time_limit_seconds),
        "target_error": ("search.target_error", target_error),
        "name": ("name", name),
    }
    told = {text: f"overrides: {text}" for text in overrides} if in_code else {}
    given = list(overrides)
    for argument, (path, value) in beside.items():
        if value is not None:
            text = json.dumps(value, ensure_ascii=False)
            option = f"{argument}=" if in_code else f"--{argument.replace('_', '-')} "
            given.append(f"{path}={text}")
            told[given[-1]] = f"{option}{text}"
    space = load_space(source, given, told)
    if space.compare is not None:
        file = isinstance(source, Path)
        place = str(source) if file else "the given space"
        remedy = shlex.quote(str(source)) if file else "FILE"
        raise ConfigError(
            f"{place}: its methods are fixed, there is nothing to search. Compare them: "
            f"sqtune compare --space {remedy}"
        )
    return space

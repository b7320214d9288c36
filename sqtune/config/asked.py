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

    Raises:
        ConfigError: Something breaks a rule, or there is nothing to search.
    """
    beside = {
        "search.num_trials": num_trials,
        "search.max_concurrent": max_concurrent,
        "search.time_limit_seconds": time_limit_seconds,
        "search.target_error": target_error,
        "name": name,
    }
    given = [
        f"{path}={json.dumps(value, ensure_ascii=False)}"
        for path, value in beside.items()
        if value is not None
    ]
    space = load_space(source, [*overrides, *given])
    if space.compare is not None:
        file = isinstance(source, Path)
        place = str(source) if file else "the given space"
        remedy = shlex.quote(str(source)) if file else "FILE"
        raise ConfigError(
            f"{place}: its methods are fixed, there is nothing to search. Compare them: "
            f"sqtune compare --space {remedy}"
        )
    return space

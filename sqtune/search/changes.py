"""What must not change when a study goes on: its trials would not compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqtune.config.space import SearchSpace
from sqtune.errors import StudyError


def refuse_changes(stored: SearchSpace, given: SearchSpace) -> None:
    """Raise StudyError, naming what differs, where trials of two spaces would not compare."""
    before, after = stored.guard(), given.guard()
    changes = [
        f"  {path}: {_shown(before, path)} -> {_shown(after, path)}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]
    if changes:
        raise StudyError(
            f'the study "{given.name}" exists with another space:\n'
            + "\n".join(changes)
            + "\nIts trials would not compare. Give --name to start another study, or put the "
            "values back to continue this one."
        )


def refuse_other_files(name: str, stored: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Raise StudyError where what a study's trials start from or learn is no longer the same.

    Args:
        name: The study's name.
        stored: sha256 when the study began: of weights by path, of code by factory, of images by
            where they are from.
        given: The same now.
    """
    for path, digest in given.items():
        if stored.get(path, digest) != digest:
            raise StudyError(
                f'the study "{name}" started from other files: {path} has changed since. Its '
                "trials would not compare. Give --name to start another study, or put the files "
                "back."
            )


def _shown(values: Mapping[str, Any], path: str) -> str:
    return json.dumps(values[path]) if path in values else "(not there)"

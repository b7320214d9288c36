"""Whether a stored state belongs to a guest: checked as a whole before anything is taken up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from sqtune.errors import QuantizationError


def refuse_other_state(given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise QuantizationError where a state is not one of a guest like this.

    Args:
        given: What a guest's `state_dict` returned.
        own: What this guest's returns; masks, counts and codes may be missing in either.
    """
    for problem in _problems(given, own):
        raise QuantizationError(
            f"this state belongs to another model, quantizer or selection: {problem}. Make the "
            "StochasticQuantization as it was when the state was stored."
        )


def _problems(given: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    for missing in own.keys() - given.keys():
        yield f"{missing} is missing"
    if given["shapes"] != own["shapes"]:
        names = sorted(given["shapes"].items() ^ own["shapes"].items())
        yield f"layers differ: {', '.join(f'{name} {shape}' for name, shape in names[:3])}"
    if given["granularity"] != own["granularity"]:
        yield f"rows were drawn by {given['granularity']}, not by {own['granularity']}"
    for part in ("steps", "activations"):
        ours, theirs = _shapes(own[part]), _shapes(given[part])
        for name in sorted(ours.keys() ^ theirs.keys()):
            yield f"{part}: {name} is only in {'this guest' if name in ours else 'the state'}"
        for name, shape in ours.items():
            if theirs[name] != shape:
                yield f"{part}: {name} has {theirs[name]} there, {shape} here"


def _shapes(content: Any, prefix: str = "") -> dict[str, Any]:
    """Return the shapes of all tensors inside nested mappings, by dotted path."""
    if isinstance(content, Tensor):
        return {prefix: tuple(content.shape)}
    if not isinstance(content, Mapping):
        return {}
    inside: dict[str, Any] = {}
    for key, value in content.items():
        inside |= _shapes(value, f"{prefix}.{key}" if prefix else str(key))
    return inside

"""What is searched: one parameter of a space, and the names of its values."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from sqtune.config.training import Strict
from sqtune.errors import did_you_mean

Conditions = Annotated[
    dict[str, JsonValue],
    Field(description="Other parameters and the value, or list of values, they must have."),
]


class ChoiceParameter(Strict):
    """One of several values: plain ones, or whole mappings such as a schedule."""

    choice: Annotated[list[JsonValue], Field(min_length=1)]
    """The values."""
    when: Conditions = {}
    """Searched only where these hold."""

    @field_validator("choice")
    @classmethod
    def _distinct(cls, values: list[Any]) -> list[Any]:
        labels = [label(value) for value in values]
        twice = sorted({name for name in labels if labels.count(name) > 1})
        if twice:
            raise ValueError(f"these values stand twice: {', '.join(twice)}.")
        return values

    def samples(self) -> list[Any]:
        """Return values that together show every way the parameter can be wrong."""
        return list(self.choice)


class IntParameter(Strict):
    """A whole number in a closed range."""

    bounds: Annotated[tuple[int, int], Field(strict=False, alias="int")]
    """Lowest and highest value."""
    step: Annotated[int, Field(ge=1)] = 1
    """Distance of neighbouring values."""
    log: bool = False
    """Whether to sample on a logarithmic scale."""
    when: Conditions = {}
    """Searched only where these hold."""

    @model_validator(mode="after")
    def _range(self) -> IntParameter:
        _check_range(*self.bounds, log=self.log)
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other: leave one out.")
        return self

    def samples(self) -> list[Any]:
        """Return the ends of the range."""
        low, high = self.bounds
        return [low, low + (high - low) // self.step * self.step]


class FloatParameter(Strict):
    """A number in a closed range."""

    bounds: Annotated[tuple[float, float], Field(strict=False, alias="float")]
    """Lowest and highest value."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance of neighbouring values; by default every number is one."""
    log: bool = False
    """Whether to sample on a logarithmic scale."""
    when: Conditions = {}
    """Searched only where these hold."""

    @model_validator(mode="after")
    def _range(self) -> FloatParameter:
        if not all(math.isfinite(end) for end in self.bounds):
            raise ValueError(f"a range has finite ends, not {list(self.bounds)}.")
        _check_range(*self.bounds, log=self.log)
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other: leave one out.")
        return self

    def samples(self) -> list[Any]:
        """Return the ends of the range."""
        return list(self.bounds)


PARAMETER_KINDS = ("choice", "int", "float")


def _kind(value: Any) -> str | None:
    """Return which of `choice`, `int` and `float` a parameter has; None unless it has just one."""
    if not isinstance(value, dict):
        name = type(value).__name__.lower()  # an instance, when a space is serialised
        return next((kind for kind in PARAMETER_KINDS if name == f"{kind}parameter"), None)
    kinds = [kind for kind in PARAMETER_KINDS if kind in value]
    return kinds[0] if len(kinds) == 1 else None


Parameter = Annotated[
    Annotated[ChoiceParameter, Tag("choice")]
    | Annotated[IntParameter, Tag("int")]
    | Annotated[FloatParameter, Tag("float")],
    Discriminator(_kind),
]


def _check_range(low: float, high: float, *, log: bool) -> None:
    if low > high:
        raise ValueError(f"the range is reversed: {low} is above {high}. Write [{high}, {low}].")
    if low == high:
        raise ValueError(f"the range is empty but for {low}: fix the value under trial: instead.")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range starts above 0, not at {low}.")


def no_value_of(parameter: Parameter, value: Any) -> str | None:
    """Return a remedy where a parameter can never have a value; None where it can.

    >>> no_value_of(IntParameter(int=(2, 8), step=3), 4)
    'They go from 2 to 8 in steps of 3.'
    >>> no_value_of(FloatParameter(float=(0.1, 1.0), log=True), 1)
    """
    if isinstance(parameter, ChoiceParameter):
        known = [label(choice) for choice in parameter.choice]
        return None if value in parameter.choice else did_you_mean(label(value), known)
    low, high = parameter.bounds
    kinds = int if isinstance(parameter, IntParameter) else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not (number and low <= value <= high):
        whole = "are whole numbers from" if isinstance(parameter, IntParameter) else "lie from"
        return f"They {whole} {low} to {high}."
    if parameter.step is None:
        return None
    num_steps = (value - low) / parameter.step
    fits = abs(num_steps - round(num_steps)) < 1e-8
    return None if fits else f"They go from {low} to {high} in steps of {parameter.step}."


def label(value: Any) -> str:
    """Return the name under which a choice's value is stored and shown.

    >>> label("binary"), label(3), label({"name": "average", "num_stages": 4})
    ('binary', '3', 'average num_stages=4')
    """
    if isinstance(value, dict):
        rest = " ".join(f"{key}={label(item)}" for key, item in value.items() if key != "name")
        return f"{value.get('name', '')} {rest}".strip()
    if isinstance(value, list):
        return f"[{', '.join(label(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value)

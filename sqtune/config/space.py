"""SearchSpace: what is fixed, what is searched and how the search runs. Frozen and checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from sqtune.config.paths import get, keys_of, put
from sqtune.config.training import Strict
from sqtune.config.trial import TrialConfig, flatten

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


class SearchOptions(Strict):
    """How the search runs."""

    num_trials: Annotated[int, Field(ge=1, le=1_000_000)] = 24
    """Trials to finish."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe` learns from finished trials; `random` does not."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler."""
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """Trials at once; by default as many as the resources allow."""
    time_limit_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The search ends after this time, however many trials have finished."""


class Resources(Strict):
    """What one trial gets."""

    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """CPUs; torch gets as many threads, at least one."""
    gpus: Annotated[float, Field(ge=0, le=1024)] = 0.0
    """GPUs, whole numbers or a share of one."""

    @field_validator("gpus")
    @classmethod
    def _share_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus is a share of one GPU or a whole number, not {gpus}.")
        return gpus

    @property
    def num_threads(self) -> int:
        """Threads of torch in a trial."""
        return max(1, int(self.cpus))


class SearchSpace(Strict):
    """A checked space file."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Name of the study; by default the file's name without its ending."""
    trial: dict[str, JsonValue] = {}
    """Fixed values of the trial's configuration."""
    space: dict[str, Parameter] = {}
    """Searched values: dotted paths into the trial's configuration."""
    search: SearchOptions = SearchOptions()
    """How the search runs."""
    resources: Resources = Resources()
    """What one trial gets."""

    def active(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters whose conditions hold, each after those it depends on.

        `values` may grow between two yields: a caller that samples adds each value to it.
        """
        for path in self.order():
            parameter = self.space[path]
            if all(self._holds(other, wanted, values) for other, wanted in parameter.when.items()):
                yield path, parameter

    def _holds(self, path: str, wanted: Any, values: Mapping[str, Any]) -> bool:
        """Tell whether a condition holds: the value is the wanted one, or one of its list."""
        if path in self.space:
            if path not in values:  # its own condition does not hold
                return False
            value = values[path]
        else:
            value = self.fixed(path)
        return value in wanted if isinstance(wanted, list) else bool(value == wanted)

    def fixed(self, path: str) -> Any:
        """Return the value under `trial:` at a dotted path.

        Raises:
            KeyError: There is none.
        """
        return get(self.trial, keys_of(path))

    def order(self) -> list[str]:
        """Return the paths, each after those its condition names."""
        done: list[str] = []
        waiting = list(self.space)
        while waiting:
            ready = [
                path
                for path in waiting
                if not any(other in waiting for other in self.space[path].when)
            ]
            if not ready:
                raise ValueError(f"these conditions go in a circle: {', '.join(waiting)}.")
            done.append(ready[0])
            waiting.remove(ready[0])
        return done

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """Return the trial's configuration with sampled values (by path) put in.

        A sampled `name` starts its part of the configuration anew, unless it is the fixed one: the
        fields of one quantizer are not those of another.

        Raises:
            pydantic.ValidationError: A value breaks a rule.
            NoSuchEntryError: A path goes past the end of a list.
        """
        return TrialConfig.model_validate_json(json.dumps(self.nested(values)))

    def nested(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the unchecked configuration with sampled values put in."""
        tree: dict[str, Any] = json.loads(json.dumps(self.trial))
        for path in sorted(values, key=lambda path: (path.count("."), not path.endswith(".name"))):
            put(tree, keys_of(path), values[path])
        return tree

    def guard(self) -> dict[str, Any]:
        """Return, flat, what makes a study's trials comparable.

        Left out are the number of trials, concurrency, time limit and resources: they may change
        when a study goes on.
        """
        content = self.model_dump(mode="json", by_alias=True)
        guarded = {
            "trial": content["trial"],
            "space": {
                path: {key: item for key, item in parameter.items() if item != {}}  # no conditions
                for path, parameter in content["space"].items()
            },
            "search": {key: content["search"][key] for key in ("sampler", "seed")},
        }
        return flatten(guarded)

    def hash(self) -> str:
        """Return the sha256 of the guarded part."""
        return hashlib.sha256(json.dumps(self.guard(), sort_keys=True).encode()).hexdigest()


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

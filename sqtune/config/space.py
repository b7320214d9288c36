"""SearchSpace: what is fixed, what is searched and how the search runs. Frozen and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, JsonValue

from sqtune.config.compare import Comparison
from sqtune.config.options import Resources, SearchOptions, StageOptions, Target
from sqtune.config.parameters import Parameter
from sqtune.config.paths import get, keys_of, put
from sqtune.config.training import Strict
from sqtune.config.trial import TrialConfig, flatten


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
    points: list[dict[str, JsonValue]] = []
    """Values to try first: dotted paths into the trial's configuration. What a point leaves out is
    sampled."""
    compare: Comparison | None = None
    """Methods that `sqtune compare` trains alike; nothing is searched then."""
    target: Target | None = None
    """What the network has to fit into."""
    stages: StageOptions = StageOptions()
    """Where stages of training are kept."""
    resources: Resources = Resources()
    """What one trial gets."""

    def active(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters whose conditions hold, each after those it depends on.

        `values` may grow between two yields: a caller that samples adds each value to it.
        """
        for path in self.order():
            if self.is_active(path, values):
                yield path, self.space[path]

    def completed(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point with the first value of each active parameter that it leaves open."""
        values = dict[str, Any]()
        for path, parameter in self.active(values):
            values[path] = point.get(path, parameter.samples()[0])
        return values

    def is_active(self, path: str, values: Mapping[str, Any]) -> bool:
        """Tell whether the conditions of a parameter hold, given those before it."""
        when = self.space[path].when
        return all(self._holds(other, wanted, values) for other, wanted in when.items())

    def _holds(self, path: str, wanted: Any, values: Mapping[str, Any]) -> bool:
        if path in self.space:
            if path not in values:  # its own condition does not hold
                return False
            value = values[path]
        else:
            value = self.fixed(path)
        return self.meets(value, wanted)

    @staticmethod
    def meets(value: Any, wanted: Any) -> bool:
        """Tell whether a value is the wanted one, or one of a wanted list."""
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

        Left out is what may change when a study goes on: the number of trials, the points tried
        first, early stopping, limits, stages and resources.
        """
        content = self.model_dump(mode="json", by_alias=True)
        guarded = {
            "trial": content["trial"],
            "space": {
                path: {key: item for key, item in parameter.items() if item != {}}  # no conditions
                for path, parameter in content["space"].items()
            },
            "search": {key: content["search"][key] for key in ("sampler", "seed", "objectives")},
            "target": content["target"],
        }
        return flatten(guarded)

    def hash(self) -> str:
        """Return the sha256 of the guarded part."""
        return hashlib.sha256(json.dumps(self.guard(), sort_keys=True).encode()).hexdigest()

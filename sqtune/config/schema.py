"""The JSON schema of space files, for editors."""

from __future__ import annotations

from typing import Any

from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig


def space_file_schema() -> dict[str, Any]:
    """Return the schema: a SearchSpace with a TrialConfig under `trial` and an optional name."""
    schema = SearchSpace.model_json_schema()
    trial = TrialConfig.model_json_schema()
    of_trial = trial.pop("$defs")
    assert not schema["$defs"].keys() & of_trial.keys(), "two classes of one name"
    schema["$defs"] |= of_trial
    network = trial["properties"]["network"]
    network["anyOf"] = network.pop("oneOf")  # {width: 8}, a resnet20, looks like others as well
    schema["$defs"]["TrialConfig"] = trial
    schema["properties"]["trial"] = {
        "$ref": "#/$defs/TrialConfig",
        "description": schema["properties"]["trial"]["description"],
    }
    schema["required"] = [name for name in schema.get("required", []) if name != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

"""The JSON schema of space files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from sqtune.config.space import SearchSpace
from sqtune.config.trial import TrialConfig


def space_file_schema() -> dict[str, Any]:
    """Return the schema: a SearchSpace with a TrialConfig under `trial` and an optional name."""
    models = (SearchSpace, TrialConfig)
    defs = models_json_schema([(model, "validation") for model in models])[1]["$defs"]
    schema = defs.pop("SearchSpace")
    network = defs["TrialConfig"]["properties"]["network"]
    network["anyOf"] = network.pop("oneOf")  # {width: 8}, a resnet20, looks like others as well
    schema["properties"]["trial"] = {
        "$ref": "#/$defs/TrialConfig",
        "description": schema["properties"]["trial"]["description"],
    }
    schema["required"] = [name for name in schema.get("required", []) if name != "name"]
    schema["$defs"] = defs
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

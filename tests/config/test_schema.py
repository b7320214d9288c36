"""The JSON schema: editors take what sqtune takes, and mark plain mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqtune.config.schema import space_file_schema
from sqtune.config.yaml_file import read_yaml

jsonschema = pytest.importorskip("jsonschema")  # comes with ray

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml"))


def is_valid(content):
    schema = space_file_schema()
    return jsonschema.Draft202012Validator(schema).is_valid(content)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_fits_the_schema(path):
    assert is_valid(read_yaml(path).content)


@pytest.mark.parametrize(
    ("trial", "valid"),
    [
        ({"network": {"width": 8}}, True),
        ({"network": {"name": "torchvision", "model": "alexnet"}}, True),
        ({"network": {"name": "torchvision", "model": "alexnet", "width": 8}}, False),
        ({"network": {"name": "resnet9"}}, False),
        ({"network": {"name": "alexnet_bn", "width": 48}}, True),
        ({"network": {"factory": "mine:build", "args": {"depths": [1, 2]}}}, True),
        ({"network": {"factory": "mine:build", "args": [1, 2]}}, False),
        ({"network": {"factory": "mine:build", "width": 8}}, False),
        ({"keep_float": ["stem"]}, True),
        ({"keep_float": "stem"}, False),
        ({"overrides": [{"match": "stem", "quantizer": {"name": "lsq", "bits": 2}}]}, True),
        ({"overrides": [{"match": "stem", "quantizer": {"name": "lsq", "bits": 9}}]}, False),
        ({"overrides": [{"match": "stem"}]}, False),
        ({"activation_bits": 4, "activation_clipping": "pact"}, True),
        ({"activation_bits": 3}, False),
    ],
    ids=str,
)
def test_the_schema_knows_rules_activations_and_networks(trial, valid):
    assert is_valid({"trial": trial}) is valid


@pytest.mark.parametrize(
    ("content", "valid"),
    [
        ({"stages": {"url": "s3://bucket/stages", "max_size": 1000}}, True),
        ({"stages": {"ratios": [0.5, 1]}}, False),
        ({"trial": {"schedule": {"name": "stages", "ratios": [0.5, 1]}}}, True),
        ({"trial": {"schedule": {"name": "stages", "url": "s3://bucket/stages"}}}, False),
    ],
    ids=str,
)
def test_the_schema_tells_the_place_of_stages_from_a_schedule(content, valid):
    assert is_valid(content) is valid

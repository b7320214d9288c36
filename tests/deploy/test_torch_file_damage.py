"""Files of the torch form that are not as they were written: refused, by name, nothing executed."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from safetensors.torch import save as to_bytes
from saved_networks import network_config, save, written

from sqtune.deploy.torch_file import load_torch
from sqtune.errors import ExportError
from sqtune.quant import Ternary


@pytest.fixture
def file(tmp_path) -> Path:
    save(tmp_path / "network", network_config(quantizer=Ternary(), activation_bits=4))
    path = tmp_path / "model.safetensors"
    path.write_bytes(written(tmp_path / "network"))
    return path


def refused(path: Path, message: str = "safetensors") -> None:
    with pytest.raises(ExportError, match=message) as caught:
        load_torch(path)
    assert str(path) in str(caught.value)


def test_a_file_that_was_cut_off_anywhere_is_refused(file):
    whole = file.read_bytes()
    ends = {0, 1, 7, 8, 9, len(whole) - 1, *range(0, len(whole), 101)}
    for end in sorted(ends):
        file.write_bytes(whole[:end])
        refused(file, "damaged")
    file.write_bytes(whole + b"\0")
    refused(file, "damaged")


def test_one_flipped_bit_anywhere_is_noticed(file):
    whole = file.read_bytes()
    for place in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        file.write_bytes(flipped)
        refused(file)


@pytest.mark.parametrize("kind", ["pickle", "text", "empty", "other", "no metadata", "deep"])
def test_files_of_other_kinds_are_refused(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    match kind:
        case "pickle":
            torch.save({"codes": torch.ones(3)}, path)
        case "text":
            path.write_text("x" * 1000)
        case "empty":
            path.write_bytes(b"")
        case "other":
            save_file({"codes": torch.ones(3)}, path, {"format": "pt"})
        case "no metadata":
            save_file({"codes": torch.ones(3)}, path)
        case "deep":
            text = b'{"a":' * 100_000
            path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path, "safetensors file")


def test_a_file_that_is_not_there_is_named(tmp_path):
    refused(tmp_path / "nothing.safetensors", "No such file")


def forged(file: Path, **changes: object) -> None:
    """Rewrite a file with other metadata and the checksum that goes with it."""
    data = file.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    metadata |= {"sha256": "0" * 64}
    for key, value in changes.items():
        inside = isinstance(value, dict)
        metadata[key] = json.dumps(json.loads(metadata[key]) | value) if inside else value
    data = to_bytes(load(data), metadata)
    found = hashlib.sha256(data).hexdigest()
    file.write_bytes(data.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + found.encode(), 1))


def test_a_forged_file_is_read_if_it_says_the_same(file):
    forged(file)
    load_torch(file)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("something was executed",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"network": {"name": "os.system", "model": "true"}}}, "network"),
        ({"config": {"network": "builtins.exec"}}, "network"),
        ({"config": {"network": {"name": "torchvision", "model": "os.system"}}}, "os.system"),
        ({"config": {"__class__": "os.system"}}, "__class__"),
        ({"config": {"quantizer": {"name": "binary", "__reduce__": "x"}}}, "quantizer"),
        ({"config": {"quantizer": {"name": "binary"}}}, "other layers"),
        ({"config": {"network": {"name": "resnet8", "width": 4}}}, "other layers"),
        ({"config": {"network": {"name": "resnet8", "width": 10**9}}}, "1 to 1024"),
        ({"config": {"batch_size": "128"}}, "batch_size"),
        ({"config": "{"}, "config|JSON"),
        ({"config": pickle.dumps(Trap(), 0).decode()}, "JSON"),
        ({"about": {"classes": ["one"]}}, "other layers"),
        ({"about": {"image_size": [2, 2]}}, "needs at least 8x8"),
        ({"about": {"num_channels": 1}}, "other layers"),
        ({"layout": "0" * 64}, "other layers"),
        ({"format": "sqtune network 2"}, "format"),
    ],
    ids=str,
)
def test_metadata_that_names_something_else_is_refused_and_never_executed(file, changes, message):
    forged(file, **changes)
    refused(file, message)


@pytest.mark.parametrize("name", ["codes", "scales", "floats", "inputs"])
@pytest.mark.parametrize("change", ["missing", "shorter", "longer", "empty"])
def test_tensors_that_do_not_fit_the_network_are_refused(file, name, change):
    tensors = load_file(file)
    tensor = tensors[name]
    match change:
        case "missing":
            del tensors[name]
        case "shorter":
            tensors[name] = tensor[:-1].clone()
        case "longer":
            tensors[name] = torch.cat([tensor, tensor[:1]])
        case "empty":
            tensors[name] = torch.empty(0)
    data = file.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    file.write_bytes(to_bytes(tensors, metadata))
    forged(file)
    refused(file)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(file, value):
    tensors = load_file(file)
    tensors["scales"][0] = value
    data = file.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    file.write_bytes(to_bytes(tensors, metadata))
    forged(file)
    refused(file, "finite")

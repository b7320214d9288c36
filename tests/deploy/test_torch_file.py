"""The torch form: small, exact, the same bytes for the same network, and nothing executed."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from safetensors.torch import save as to_bytes
from saved_networks import SHAPE, about, network_config, save
from small_networks import images
from torch import nn

from sqtune.deploy.torch_file import load_torch, torch_bytes
from sqtune.errors import ExportError, NetworkError
from sqtune.networks import Torchvision
from sqtune.quant import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    StochasticQuantization,
    Ternary,
    Uniform,
    packed_bytes,
)
from sqtune.train.checkpoint import SavedNetwork, load_codes, load_network

QUANTIZERS = [
    Float(),
    Binary(),
    Ternary(),
    Ternary("row"),
    LearnedTernary(),
    *(Uniform(bits=bits) for bits in range(2, 9)),
    *(LearnedUniform(bits=bits) for bits in range(2, 9)),
]
ACTIVATIONS = [
    {},
    {"activation_bits": 8},
    {"activation_bits": 4, "activation_clipping": "pact"},
    {"activation_bits": 2, "activation_ends_bits": 32},
]
RULES = [
    {"keep_float": ["head"]},
    {"keep_float": [".*"]},
    {
        "keep_float": ["group1"],
        "overrides": [
            {"match": "stem", "quantizer": Uniform(bits=2)},
            {"match": "group2", "quantizer": Ternary()},
            {"match": "group3.0.conv2", "quantizer": LearnedUniform(bits=3)},
        ],
        "activation_bits": 4,
    },
]


def written(folder: Path) -> bytes:
    return torch_bytes(load_network(folder), load_codes(folder))


@pytest.fixture
def file(tmp_path) -> Path:
    save(tmp_path / "network", network_config(quantizer=Ternary(), activation_bits=4))
    path = tmp_path / "model.safetensors"
    path.write_bytes(written(tmp_path / "network"))
    return path


def check(tmp_path: Path, config, shape=SHAPE) -> Path:
    state, logits = save(tmp_path / "network", config, shape)
    path = tmp_path / "model.safetensors"
    path.write_bytes(written(tmp_path / "network"))
    model = load_torch(path)
    assert not model.training
    found = model.network.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    assert torch.equal(model(images(16, shape)), logits)
    assert (model.config, model.image_shape) == (config, shape)
    assert (model.classes, model.mean, model.std) == (
        about(shape).classes,
        about(shape).mean,
        about(shape).std,
    )
    return path


@pytest.mark.parametrize("activations", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_weights_and_logits_come_back_bit_for_bit(tmp_path, quantizer, activations):
    check(tmp_path, network_config(quantizer=quantizer, **activations))


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("quantizer", [Binary(), LearnedUniform(bits=4)], ids=str)
def test_layers_with_quantizers_of_their_own_come_back(tmp_path, quantizer, rules):
    check(tmp_path, network_config(quantizer=quantizer, **rules))


def test_a_network_of_torchvision_comes_back(tmp_path):
    config = network_config(network=Torchvision("mobilenet_v2"), quantizer=Uniform(bits=2))
    check(tmp_path, config, (3, 32, 32))


@pytest.mark.parametrize("quantizer", [Binary(), Ternary(), Uniform(bits=5), Float()], ids=str)
def test_a_file_is_what_is_packed_and_little_else(tmp_path, quantizer):
    config = network_config(quantizer=quantizer, keep_float=["head"], activation_bits=8)
    path = check(tmp_path, config)
    saved = load_network(tmp_path / "network")
    layers = saved.quantization.quantizers
    payload = 0
    for name, tensor in saved.model.state_dict().items():
        if name in layers:
            payload += packed_bytes(tensor.numel(), layers[name]) + 4 * len(tensor)
        elif not name.endswith("num_batches_tracked"):
            payload += 4 * tensor.numel()
    payload += 12 * len(layers)  # clipping points
    about_it = len(json.dumps(config.nested())) + len(json.dumps(about().classes))
    assert payload < path.stat().st_size < payload + about_it + 1200
    tensors = load_file(path)
    assert len(tensors) == (2 if quantizer == Float() else 4) - (quantizer == Float())
    assert sum(tensor.nbytes for tensor in tensors.values()) == payload


def test_equal_networks_give_equal_bytes(tmp_path):
    config = network_config(quantizer=LearnedUniform(bits=3), activation_bits=2)
    files = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        save(tmp_path / name, config, seed=seed)
        files.append(written(tmp_path / name))
    assert files[0] == files[1] != files[2]


class Twice(nn.Module):
    """A layer that two names have."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight
        self.register_buffer("order", torch.arange(12))


def test_a_shared_weight_is_stored_once_and_other_types_as_they_are():
    model, config = Twice(), network_config()
    guest = StochasticQuantization(model, Binary())
    data = torch_bytes(SavedNetwork(config, about(), model, guest), guest.codes())
    tensors = load(data)
    assert tensors["codes"].numel() == 144 // 8
    assert tensors["scales"].numel() == 12
    assert torch.equal(tensors["floats"], torch.cat([model.first.bias, model.second.bias]))
    assert torch.equal(tensors["state.order"], torch.arange(12))


def test_a_loaded_network_is_for_inference_and_can_be_copied(file):
    model = load_torch(file)
    pixels = images(4)
    logits = model(pixels)
    assert not logits.requires_grad
    assert torch.equal(copy.deepcopy(model)(pixels), logits)
    double = model.double()
    assert {tensor.dtype for tensor in double._inputs.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("pixels", "named"),
    [
        (torch.zeros(2, *SHAPE), "float32"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"\(2, 3, 8, 8\)"),
        (torch.zeros(*SHAPE, dtype=torch.uint8), r"\(3, 12, 12\)"),
    ],
    ids=["float", "size", "no batch"],
)
def test_images_of_another_kind_are_refused(file, pixels, named):
    with pytest.raises(NetworkError, match=f"uint8 and shape N x 3 x 12 x 12, not .*{named}"):
        load_torch(file)(pixels)


# files that are not as they were written


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

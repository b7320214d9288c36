"""The torch form: small, exact, the same bytes for the same network, and nothing executed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file
from saved_networks import SHAPE, about, network_config, save, written
from small_networks import images
from torch import nn

from sqtune.deploy.torch_file import load_torch, torch_bytes
from sqtune.errors import NetworkError
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
from sqtune.train.checkpoint import SavedNetwork, load_network

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

"""Saved networks: the same predictions, exact codes, whole or not at all, nothing executed."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch

from sqtune.config import TrialConfig
from sqtune.config.trial import Override
from sqtune.data.batches import Normalize
from sqtune.errors import StoreError
from sqtune.networks import ResNet, build
from sqtune.quant import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    Ternary,
    Uniform,
    packed_bytes,
)
from sqtune.train.checkpoint import (
    ABOUT,
    CODES,
    WEIGHTS,
    About,
    load_codes,
    load_network,
    save_network,
)
from sqtune.train.evaluate import error_rate
from sqtune.train.history import LAYERS
from sqtune.train.loop import saved_error, train

CPU = torch.device("cpu")
QUANTIZERS = [Binary(), Ternary(), Ternary("row"), *(Uniform(bits=bits) for bits in range(2, 9))]
ABOUT_IT = About(tuple("abc"), 1, (8, 8), (0.5,), (0.25,), "f00d", {"val_error": 0.5})


def config(quantizer) -> TrialConfig:
    network = ResNet("resnet8", 3)  # odd numbers of codes: the last byte is not full
    return TrialConfig(network=network, quantizer=quantizer, batch_size=256, num_epochs=1)


def save(folder: Path, quantizer=Binary(), seed: int = 0) -> torch.nn.Module:  # noqa: B008
    """Save a network with fresh weights; return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config(quantizer).network, 1, 3)
    save_network(folder, config(quantizer), ABOUT_IT, model)
    return model


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()


@pytest.mark.parametrize("quantizer", [Float(), Binary(), Ternary(), Uniform(bits=3)], ids=str)
def test_a_trained_network_comes_back_with_the_error_it_was_measured_with(
    digits, tmp_path, quantizer
):
    folder = tmp_path / "network"
    *_, last = train(config(quantizer), splits=digits, num_threads=1, save_to=folder)
    assert saved_error(folder, digits, "validation") == last.val_error
    saved = load_network(folder)
    assert saved.config == config(quantizer)
    assert saved.about.result["val_error"] == last.val_error
    assert (saved.about.classes, saved.about.image_size) == (digits.classes, (8, 8))
    assert (saved.about.mean, saved.about.std) == (digits.mean, digits.std)
    assert saved.about.data_fingerprint == digits.fingerprint
    for name, layer in load_codes(folder).items():  # the packed codes alone predict the same
        saved.model.get_parameter(name).data.copy_(layer.values())
    normalize = Normalize(digits.mean, digits.std, CPU)
    assert error_rate(saved.model, digits.validation, normalize, CPU) == last.val_error


@pytest.mark.parametrize("clipping", ["lsq", "pact"])
@pytest.mark.parametrize("quantizer", [LearnedUniform(bits=2), LearnedTernary(), Binary()], ids=str)
def test_what_was_learned_beside_the_weights_comes_back(digits, tmp_path, quantizer, clipping):
    settings = config(quantizer).model_copy(
        update={
            "activation_bits": 4,
            "activation_clipping": clipping,
            "num_epochs": 2,
            "overrides": (Override(match="head", quantizer=LearnedUniform(bits=8)),),
            "keep_float": ("stem",),
        }
    )
    *_, last = train(settings, splits=digits, num_threads=1, save_to=tmp_path / "network")
    assert saved_error(tmp_path / "network", digits, "validation") == last.val_error
    saved, codes = load_network(tmp_path / "network"), load_codes(tmp_path / "network")
    assert "stem.weight" not in codes
    frozen = saved.quantization.freeze()
    for name, layer in frozen.items():
        assert same_bits(layer.scale_O, codes[name].scale_O)
        assert torch.equal(layer.codes, codes[name].codes)
    normalize = Normalize(digits.mean, digits.std, CPU)
    assert error_rate(saved.model, digits.validation, normalize, CPU) == last.val_error


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_codes_unpack_to_the_frozen_weights_bit_for_bit(tmp_path, quantizer):
    save(tmp_path / "network", quantizer)
    layers = load_codes(tmp_path / "network")
    saved = load_network(tmp_path / "network")
    with saved.quantization.quantized():
        for name, layer in layers.items():
            assert same_bits(layer.values(), saved.model.get_parameter(name).detach())
    frozen = saved.quantization.freeze()
    assert layers.keys() == frozen.keys()
    for name, layer in layers.items():
        assert same_bits(layer.codes, frozen[name].codes)
        assert same_bits(layer.scale_O, frozen[name].scale_O)
        assert same_bits(layer.values(), saved.model.get_parameter(name).detach())


def test_a_float_network_has_no_codes(tmp_path):
    save(tmp_path / "network", Float())
    assert load_codes(tmp_path / "network") == {}


def test_saving_changes_neither_the_model_nor_its_mode_nor_the_global_generator(tmp_path):
    model = save(tmp_path / "one")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    state = torch.get_rng_state()
    save_network(tmp_path / "two", config(Binary()), ABOUT_IT, model)
    assert model.training
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.data_ptr() for parameter in model.parameters()] == pointers
    back = load_network(tmp_path / "two").model
    assert all(same_bits(value, before[name]) for name, value in back.state_dict().items())
    assert not back.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_files_are_json_and_safetensors_of_the_predicted_size(tmp_path):
    save(tmp_path / "network", Ternary())
    files = {path.name: path.read_bytes() for path in (tmp_path / "network").iterdir()}
    assert set(files) == {WEIGHTS, CODES, ABOUT, LAYERS}
    json.loads(files[ABOUT])
    headers = {}
    for name in (WEIGHTS, CODES):
        (length,) = struct.unpack("<Q", files[name][:8])
        headers[name] = json.loads(files[name][8 : 8 + length])
    shapes = json.loads(headers[CODES]["__metadata__"]["shapes"])
    for name, shape in shapes.items():
        entry = headers[CODES][f"{name}.codes"]
        assert entry["dtype"] == "U8"
        assert entry["shape"] == [packed_bytes(torch.Size(shape).numel(), Ternary())]


def test_others_may_read_what_they_may_read_of_the_store(tmp_path):
    save(tmp_path / "net")
    (tmp_path / "plain").touch()
    modes = {file.name: oct(file.stat().st_mode) for file in (tmp_path / "net").iterdir()}
    assert set(modes.values()) == {oct((tmp_path / "plain").stat().st_mode)}, modes


@pytest.mark.parametrize("name", [WEIGHTS, CODES, ABOUT])
def test_a_pickle_is_never_executed(tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    save(tmp_path / "network")
    (tmp_path / "network" / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(Exception, match=r"network|header"):  # see the damage tests for its type
        load_codes(tmp_path / "network")
    assert not (tmp_path / "executed").exists()


def test_saving_again_replaces_everything_and_leaves_nothing_beside(tmp_path):
    save(tmp_path / "network", Binary(), seed=0)
    (tmp_path / "network" / "stray").write_text("of the first run")
    second = save(tmp_path / "network", Ternary(), seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["network"]
    assert {path.name for path in (tmp_path / "network").iterdir()} == {
        WEIGHTS,
        CODES,
        ABOUT,
        LAYERS,
    }
    saved = load_network(tmp_path / "network")
    assert saved.config.quantizer == Ternary()
    assert same_bits(saved.model.state_dict()["stem.weight"], second.state_dict()["stem.weight"])


def test_folders_above_are_made(tmp_path):
    save(tmp_path / "a" / "b" / "network")
    assert load_network(tmp_path / "a" / "b" / "network").about == ABOUT_IT


def test_a_save_that_fails_leaves_the_earlier_network_whole(tmp_path):
    model = save(tmp_path / "network")
    unwritable = About(("a",), 1, (8, 8), (0.5,), (0.25,), "f00d", {"val_error": object()})
    with pytest.raises(TypeError):
        save_network(tmp_path / "network", config(Ternary()), unwritable, model)
    assert load_network(tmp_path / "network").config.quantizer == Binary()
    assert load_codes(tmp_path / "network")


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def of_another_shape(content: bytes) -> bytes:
    return content.replace(b"[3,1,3,3]", b"[1,3,3,3]")


DAMAGE = {
    "truncated": truncated,
    "one byte short": lambda content: content[:-1],
    "empty": lambda content: b"",
    "text": lambda content: b"no such thing here",
    "missing": None,
}


def damage(path: Path, kind: str) -> None:
    change = DAMAGE[kind]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights_are_a_store_error_that_names_the_folder(tmp_path, kind):
    save(tmp_path / "network")
    damage(tmp_path / "network" / WEIGHTS, kind)
    with pytest.raises(StoreError, match=str(tmp_path / "network")):
        load_network(tmp_path / "network")


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "missing"])
def test_a_damaged_description_is_a_store_error_that_names_the_folder(tmp_path, kind):
    save(tmp_path / "network")
    damage(tmp_path / "network" / ABOUT, kind)
    with pytest.raises(StoreError, match=str(tmp_path / "network")):
        load_network(tmp_path / "network")


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_codes_are_a_store_error_that_names_the_folder(tmp_path, kind):
    save(tmp_path / "network")
    damage(tmp_path / "network" / CODES, kind)
    with pytest.raises(StoreError, match=str(tmp_path / "network")):
        load_codes(tmp_path / "network")


@pytest.mark.parametrize("name", [WEIGHTS, CODES])
def test_one_altered_byte_is_a_store_error(tmp_path, name):
    save(tmp_path / "network")
    path = tmp_path / "network" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.write_bytes(content)
    with pytest.raises(StoreError):
        load_codes(tmp_path / "network")


@pytest.mark.parametrize(
    "change",
    [
        {"about": {"num_channels": 3}},
        {"about": {"classes": ["a", "b"]}},
        {"about": {"classes": 3}},
        {"about": {"image_size": "8x8"}},
        {"config": {"network": {"name": "resnet20", "width": 3}}},
        {"config": {"network": {"name": "resnet8", "width": 4}}},
        {"config": {"quantizer": {"name": "binary", "bits": 3}}},
        {"config": {"seeed": 1}},
    ],
    ids=str,
)
def test_an_altered_description_is_a_store_error(tmp_path, change):
    save(tmp_path / "network")
    path = tmp_path / "network" / ABOUT
    content = json.loads(path.read_text())
    for section, fields in change.items():
        content[section] |= fields
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=str(tmp_path / "network")):
        load_network(tmp_path / "network")


def test_a_tensor_of_another_shape_is_a_store_error(tmp_path):
    save(tmp_path / "network")
    path = tmp_path / "network" / WEIGHTS
    content = path.read_bytes()
    altered = of_another_shape(content)
    assert altered != content
    path.write_bytes(altered)
    with pytest.raises(StoreError, match="network"):
        load_network(tmp_path / "network")


def test_a_folder_that_is_not_there_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        load_network(tmp_path / "nowhere")

"""Weights to start from: every key in its place or a clear error, and nothing is executed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sqtune.config import TrialConfig
from sqtune.config.training import Start
from sqtune.errors import StoreError
from sqtune.networks import ResNet, build
from sqtune.quant import Binary, Float
from sqtune.train.checkpoint import WEIGHTS, load_network
from sqtune.train.loop import train
from sqtune.train.start import load_start

NETWORK = ResNet("resnet8", 2)


def network(seed: int, num_classes: int = 10) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(NETWORK, 1, num_classes)


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def message(model: nn.Module, path: Path, *fresh: str) -> str:
    """Return the error of a start that fails; it leaves the model as it was."""
    before = values(model)
    with pytest.raises(StoreError) as caught:
        load_start(model, Start(weights=str(path), fresh=fresh))
    assert same(values(model), before)
    return str(caught.value)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "net.pth"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_every_form_of_a_file_gives_the_same_weights(tmp_path, name, wrapper, prefix):
    there, here = network(1), network(2)
    state = {f"{prefix}{key}": value for key, value in there.state_dict().items()}
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        content = state if wrapper is None else {wrapper: state, "epoch": 7, "optimizer": {}}
        torch.save(content, tmp_path / name)
    pointers = [parameter.data_ptr() for parameter in here.parameters()]
    load_start(here, Start(weights=str(tmp_path / name)))
    assert same(values(here), values(there))
    assert [parameter.data_ptr() for parameter in here.parameters()] == pointers


def test_a_saved_network_is_a_start_for_any_quantizer(digits, tmp_path):
    settings = TrialConfig(network=NETWORK, quantizer=Float(), batch_size=256, num_epochs=1)
    list(train(settings, splits=digits, num_threads=1, save_to=tmp_path / "float-net"))
    model = network(2)
    load_start(model, Start(weights=str(tmp_path / "float-net")))
    assert same(values(model), values(load_network(tmp_path / "float-net").model))


def test_starting_from_ones_own_fresh_weights_changes_no_bit(digits, tmp_path):
    settings = TrialConfig(network=NETWORK, quantizer=Binary(), batch_size=256, num_epochs=2)

    def figures(config):
        results = train(config, splits=digits, num_threads=1)
        return [dataclasses.replace(result, images_per_second=0.0) for result in results]

    own_seed = int.from_bytes(hashlib.sha256(b"0:epoch 0").digest()[:7], "big")
    for name, kept in (("own.pt", network(own_seed)), ("other.pt", network(5))):
        torch.save(kept.state_dict(), tmp_path / name)
    own = settings.model_copy(update={"start": Start(weights=str(tmp_path / "own.pt"))})
    other = settings.model_copy(update={"start": Start(weights=str(tmp_path / "other.pt"))})
    assert figures(own) == figures(settings)
    assert figures(other) != figures(settings)


def test_fresh_modules_keep_their_weights_whatever_the_file_has_there(tmp_path):
    there = network(1, num_classes=7)
    torch.save(there.state_dict(), tmp_path / "other-classes.pt")
    headless = {key: v for key, v in there.state_dict().items() if not key.startswith("head")}
    torch.save(headless, tmp_path / "headless.pt")
    torch.save({**headless, "aux.weight": torch.zeros(3)}, tmp_path / "auxiliary.pt")
    for name, fresh in [
        ("other-classes.pt", ("head",)),
        ("headless.pt", ("he.*",)),
        ("auxiliary.pt", ("head", "aux")),
    ]:
        model = network(2)
        load_start(model, Start(weights=str(tmp_path / name), fresh=fresh))
        expected = {**values(there), **{k: v for k, v in values(network(2)).items() if "head" in k}}
        assert same(values(model), expected)


def test_a_pattern_takes_a_whole_module_or_one_around_it(tmp_path):
    torch.save(network(1).state_dict(), tmp_path / "net.pt")
    model = network(2)
    load_start(
        model, Start(weights=str(tmp_path / "net.pt"), fresh=("group1", r"group2\.0\.conv1"))
    )
    for key, value in values(model).items():
        is_fresh = key.startswith("group1.") or key == "group2.0.conv1.weight"
        assert torch.equal(value, values(network(2 if is_fresh else 1))[key])


def test_batch_norm_s_count_may_be_missing_as_in_old_files(tmp_path):
    state = values(network(1))
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pt")
    model = network(2)
    load_start(model, Start(weights=str(tmp_path / "old.pt")))
    assert same(values(model), state)


def test_what_does_not_fit_is_named_with_the_pattern_that_leaves_it_out(tmp_path):
    state = values(network(1, num_classes=7))
    del state["stem.weight"]
    state["aux.bias"] = torch.zeros(2)
    torch.save(state, tmp_path / "net.pt")
    text = message(network(2), tmp_path / "net.pt")
    assert f"trial.start.weights: {tmp_path / 'net.pt'}" in text
    assert "1 missing: stem.weight" in text
    assert "1 unexpected: aux.bias" in text
    assert "2 of another shape: head.weight (7x8 there, 10x8 here)" in text
    assert "trial.start.fresh=[aux, head, stem]" in text
    load_start(network(2), Start(weights=str(tmp_path / "net.pt"), fresh=("aux", "head", "stem")))


def test_a_file_of_another_network_is_told_in_a_few_keys(tmp_path):
    torch.save(build(ResNet("resnet20", 2), 1, 10).state_dict(), tmp_path / "deeper.pt")
    text = message(network(2), tmp_path / "deeper.pt")
    assert "unexpected: " in text
    assert "Take the network that these weights were trained with" in text
    assert len(text) < 500 + len(str(tmp_path))


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    torch.save(network(1).state_dict(), tmp_path / "net.pt")
    text = message(network(2), tmp_path / "net.pt", "head", "hea")
    assert "'hea' matches no module" in text
    assert "group1.0.bn1, " in text
    assert ", head, " in text


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["net.pt", "net.pth"])
def test_nothing_in_a_file_is_executed(tmp_path, name):
    torch.save(
        {"state_dict": network(1).state_dict(), "args": Bomb(tmp_path / "x")}, tmp_path / name
    )
    assert "nothing in it was executed" in message(network(2), tmp_path / name)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([torch.zeros(2)], "holds no state_dict"),
        ({}, "holds no state_dict"),
        ({"state_dict": {}}, "holds no state_dict"),
        ({"a": 1}, "holds no state_dict"),
        ({3: torch.zeros(2)}, "holds no state_dict"),
        ({"state_dict": {"a": torch.zeros(1)}, "model": {"b": torch.zeros(1)}}, "no state_dict"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, content, part):
    torch.save(content, tmp_path / "net.pt")
    text = message(network(2), tmp_path / "net.pt")
    assert part in text
    assert "torch.save(model.state_dict(), PATH)" in text


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:100], lambda whole: b"", lambda whole: b"x"]
)
def test_a_damaged_file_is_refused(tmp_path, name, damage):
    state = network(1).state_dict()
    save_file(state, tmp_path / name) if "safe" in name else torch.save(state, tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    assert "damaged" in message(network(2), tmp_path / name)


def test_a_missing_file_and_an_unknown_kind_are_refused(tmp_path):
    assert "does not exist" in message(network(2), tmp_path / "nowhere.pt")
    (tmp_path / "net.onnx").touch()
    assert "nor a .safetensors, .pt or .pth file" in message(network(2), tmp_path / "net.onnx")


def test_a_damaged_or_foreign_folder_is_refused(digits, tmp_path):
    settings = TrialConfig(network=NETWORK, batch_size=1024, num_epochs=1)
    list(train(settings, splits=digits, num_threads=1, save_to=tmp_path / "net"))
    content = bytearray((tmp_path / "net" / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "net" / WEIGHTS).write_bytes(content)
    assert "its checksum is not the one" in message(network(2), tmp_path / "net")
    (tmp_path / "empty").mkdir()
    assert "does not hold a whole network" in message(network(2), tmp_path / "empty")

"""What is kept of each layer, epoch by epoch; and what quantization learns has no weight decay."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sqtune.config import TrialConfig
from sqtune.config.training import Optimizer
from sqtune.networks import ResNet
from sqtune.quant import Binary, Float, Stages, quantize_rows, row_errors
from sqtune.train.checkpoint import load_network
from sqtune.train.history import LAYERS
from sqtune.train.loop import train
from sqtune.train.optim import build_optimizer


def run(digits, folder, **changes):
    settings = {"network": ResNet("resnet8", 4), "batch_size": 128, "num_epochs": 3, **changes}
    return list(train(TrialConfig(**settings), splits=digits, num_threads=1, save_to=folder))


def test_every_epoch_of_every_layer_is_kept_beside_the_network(digits, tmp_path):
    ratios = (0.5, 0.75, 1.0)
    results = run(digits, tmp_path / "net", quantizer=Binary(), schedule=Stages(ratios=ratios))
    kept, saved = load_file(tmp_path / "net" / LAYERS), load_network(tmp_path / "net")
    names = list(saved.quantization.quantizers)
    assert set(kept) == {f"{name}.{key}" for name in names for key in ("error", "drawn", "changed")}
    for name in names:
        weight = saved.model.get_parameter(name).detach().flatten(1)
        error, drawn = kept[f"{name}.error"], kept[f"{name}.drawn"]
        assert error.shape == drawn.shape == (3, len(weight))
        expected = row_errors(weight, quantize_rows(weight, Binary()).values())
        torch.testing.assert_close(error[-1], expected)
        for row, ratio in zip(drawn, ratios, strict=True):
            share = math.ceil(ratio * len(weight) - 1e-9) / len(weight)
            assert row.mean().item() == pytest.approx(share, abs=1e-6)
            assert (row <= 1).all()
    sizes = [len(saved.model.get_parameter(name)) for name in names]
    for epoch, result in enumerate(results):
        errors = torch.cat([kept[f"{name}.error"][epoch] for name in names])
        assert result.quantization_error == pytest.approx(errors.mean().item(), rel=1e-5)
        changed = [kept[f"{name}.changed"][epoch].item() for name in names]
        mean = sum(share * size for share, size in zip(changed, sizes, strict=True)) / sum(sizes)
        assert result.changed_rows == pytest.approx(mean, rel=1e-5)
        assert 0 < result.changed_rows < 1  # in the first epoch too: from the fresh weights on


def test_a_float_network_has_no_layers_to_tell_of(digits, tmp_path):
    results = run(digits, tmp_path / "net", quantizer=Float(), num_epochs=1)
    assert load_file(tmp_path / "net" / LAYERS) == {}
    assert (results[0].quantization_error, results[0].changed_rows) == (0, 0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_quantization_learns_has_no_weight_decay(name):
    weight, learned = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    spec = Optimizer(name=name, lr=0.1, weight_decay=0.5)
    optimizer = build_optimizer([weight], [learned], spec)
    for parameter in (weight, learned):
        parameter.grad = torch.zeros(3)
    optimizer.step()
    assert (weight < 1).all()
    assert torch.equal(learned, torch.ones(3))

"""What is told of each layer: errors, changed codes, how often a row was drawn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sqtune.quant import (
    Binary,
    Float,
    LayerRule,
    Selection,
    StochasticQuantization,
    Ternary,
    quantize_rows,
    row_errors,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(24, 4))


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_rows_are_counted_as_they_were_drawn(step: str) -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), step=step)
    total = dict.fromkeys(sq.quantizers, 0)
    for ratio in (0.5, 0.5, 0.25, 1.0, 0.5):
        with sq.hybrid(ratio=ratio):
            for name, mask_O in sq.state_dict()["masks"].items():
                total[name] = total[name] + mask_O.float()
    found = sq.diagnostics()
    assert list(found) == ["0.weight", "2.weight"]
    for name, layer in found.items():
        torch.testing.assert_close(layer.drawn_O, total[name] / 5)
    again = sq.diagnostics()  # anew since the last look
    assert all(not layer.drawn_O.any() for layer in again.values())


def test_single_weights_are_counted_as_the_mean_over_their_row() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), selection=Selection(granularity="element"))
    shares = []
    for _ in range(4):
        with sq.hybrid(ratio=0.5):
            shares.append(sq.state_dict()["masks"]["2.weight"].view(4, 24).float().mean(dim=1))
    torch.testing.assert_close(sq.diagnostics()["2.weight"].drawn_O, torch.stack(shares).mean(0))


def test_a_changed_row_is_one_with_a_changed_code() -> None:
    model = network()
    sq = StochasticQuantization(model, Binary())
    assert all(layer.changed is None for layer in sq.diagnostics().values())
    with torch.no_grad():
        model[0].weight.mul_(2.0)  # scales change, codes do not
        model[2].weight[1, 3].neg_()
    found = sq.diagnostics()
    assert found["0.weight"].changed == 0
    assert found["2.weight"].changed == 0.25
    assert all(layer.changed == 0 for layer in sq.diagnostics().values())


def test_errors_are_those_of_the_weights_as_they_are() -> None:
    model = network()
    sq = StochasticQuantization(model, Ternary(), rules=[LayerRule("0", Float())])
    w_OK = model[2].weight.detach()
    expected_O = row_errors(w_OK, quantize_rows(w_OK, Ternary()).values())
    found = sq.diagnostics()
    assert list(found) == ["2.weight"]
    assert torch.equal(found["2.weight"].error_O, expected_O)


def test_errors_are_0_once_the_network_is_frozen() -> None:
    sq = StochasticQuantization(network(), Binary())
    assert all(layer.error_O.min() > 0.1 for layer in sq.diagnostics().values())
    sq.freeze()
    assert all(layer.error_O.max() < 1e-6 for layer in sq.diagnostics().values())


def test_a_float_network_has_none() -> None:
    assert StochasticQuantization(network(), Float()).diagnostics() == {}


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_a_continuation_counts_on(step: str) -> None:
    model = network()
    sq = StochasticQuantization(model, Binary(), step=step)
    sq.diagnostics()
    with sq.hybrid(ratio=0.5):
        pass
    state = copy.deepcopy(sq.state_dict())
    later = StochasticQuantization(network(), Binary(), step=step)
    later.load_state_dict(state)
    for one in (sq, later):
        with one.hybrid(ratio=0.75):
            pass
    for ours, theirs in zip(sq.diagnostics().values(), later.diagnostics().values(), strict=True):
        assert torch.equal(ours.drawn_O, theirs.drawn_O)
        assert ours.changed == theirs.changed == 0

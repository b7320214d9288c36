"""What cannot be done with a model is an error that names the layer."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Binary,
    Float,
    LayerRule,
    StochasticQuantization,
    Ternary,
    quantizable_weights,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    )


# What cannot be done is an error that names the layer.


def test_a_parametrized_weight_is_an_error_that_names_the_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(QuantizationError, match=r"1: its weight is computed at each use"):
        StochasticQuantization(model, Binary())


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(
    value: float, step: str
) -> None:
    model = network()
    sq = StochasticQuantization(model, Ternary(), step=step)
    with torch.no_grad():
        model[4].weight[2, 5] = value
    before = model[4].weight.detach().clone()
    for block in (lambda: sq.hybrid(ratio=0.5), sq.quantized):
        with pytest.raises(QuantizationError, match=r"4\.weight holds 1 .* diverged"), block():
            pass
        torch.testing.assert_close(model[4].weight.detach(), before, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(QuantizationError, match=r"4\.weight"):
        sq.freeze()
    with torch.no_grad():
        model[4].weight[2, 5] = 0.0
    with sq.hybrid(ratio=0.5):  # and it goes on once they are finite again
        pass


@pytest.mark.parametrize("step", ["grouped", "per_layer"])
def test_weights_whose_sum_is_infinite_are_an_error(step: str) -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    sq = StochasticQuantization(model, Binary(), step=step)
    message = r"0\.weight holds weights up to 3e\+38"
    with pytest.raises(QuantizationError, match=message), sq.hybrid(ratio=0.5):
        pass


def test_a_complex_or_empty_weight_is_an_error_with_the_remedy() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2, dtype=torch.complex64))
    with pytest.raises(QuantizationError, match=r"1: a weight of type torch.complex64.*LayerRule"):
        StochasticQuantization(model, Binary())
    StochasticQuantization(model, Binary(), rules=[LayerRule("1", Float())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of initialising nothing
        empty = nn.Sequential(nn.Linear(0, 3))
    with pytest.raises(QuantizationError, match=r"0: a weight of type .* shape \(3, 0\)"):
        StochasticQuantization(empty, Binary())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([LayerRule("stem", Float())], "'stem' matches no layer. The layers are: 0, 4"),
        (
            [LayerRule("0|4", Binary()), LayerRule("4", Float())],
            "'4' matches 4: an earlier rule has it already",
        ),
    ],
)
def test_a_rule_that_acts_on_nothing_is_an_error_that_lists_the_names(rules, message) -> None:
    with pytest.raises(QuantizationError, match=message):
        StochasticQuantization(network(), Ternary(), rules=rules)


def test_rules_give_layers_their_quantizer_by_name_or_by_the_name_around_them() -> None:
    model = nn.Sequential()
    model.add_module("group1", nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    model.add_module("group10", nn.Linear(2, 2))
    rules = [LayerRule(r"group1\.0", Float()), LayerRule("group1", Ternary())]
    sq = StochasticQuantization(model, Binary(), rules=rules)
    assert sq.quantizers == {"group1.1.weight": Ternary(), "group10.weight": Binary()}
    assert next(iter(quantizable_weights(model))) == "group1.0.weight"
    before = model.group1[0].weight.detach().clone()
    with sq.hybrid(ratio=1.0):
        assert torch.equal(model.group1[0].weight, before)
        assert len(model.group1[1].weight[0].abs().unique()) <= 2
        assert len(model.group10.weight[0].abs().unique()) == 1
    assert list(sq.freeze()) == ["group1.1.weight", "group10.weight"]

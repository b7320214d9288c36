"""Extremes: errors of zero and infinity, a changed dtype, rows reused at another ratio."""

import math

import pytest
import torch
from torch import nn

from sqtune.quant import Binary, Selection, StochasticQuantization, select_rows

NUM_DRAWS = 20_000


def frequencies(error_M: torch.Tensor, function: str) -> torch.Tensor:
    generator, counts_M = torch.Generator().manual_seed(0), torch.zeros(len(error_M))
    for _ in range(NUM_DRAWS):
        counts_M += select_rows(error_M, 0.5, Selection(function), generator)
    return counts_M / NUM_DRAWS


@pytest.mark.parametrize(
    ("function", "first", "chance"), [("softmax", 0.0, 3 / 7), ("error", math.inf, 4 / 7)]
)
def test_equal_rows_get_equal_chances_beside_an_extreme_one(
    function: str, first: float, chance: float
) -> None:
    often = frequencies(torch.tensor([first] + [0.5] * 7), function)[1:]
    slack = 5 * math.sqrt(chance * (1 - chance) / NUM_DRAWS)
    assert ((often - chance).abs() < slack).all(), often


def test_latent_weights_come_back_bit_for_bit_after_a_change_of_dtype() -> None:
    linear = nn.Linear(4, 4)
    sq = StochasticQuantization(linear, Binary())
    with sq.hybrid(ratio=0.5):
        pass
    linear.double()
    with torch.no_grad():
        linear.weight.copy_(torch.rand(4, 4, dtype=torch.float64))
    before = linear.weight.detach().clone()
    with sq.hybrid(ratio=0.5):
        pass
    assert torch.equal(linear.weight, before)


def test_reusing_rows_at_another_ratio_does_not_pin_them_there() -> None:
    sq = StochasticQuantization(nn.Linear(4, 8), Binary(), selection=Selection(strategy="fixed"))
    with sq.hybrid(ratio=0.25):
        pass
    with sq.hybrid(ratio=0.75, redraw=False):
        pass
    with sq.hybrid(ratio=0.75):
        assert sq.state_dict()["masks"]["weight"].sum() == 6

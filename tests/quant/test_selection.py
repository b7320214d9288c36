"""Laws of the selection: how many rows, and with which chances. Shape name: M rows."""

import math
import random
from collections import Counter
from functools import cache
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sqtune.errors import QuantizationError
from sqtune.quant import Selection, select_rows
from sqtune.quant.selection import num_quantized

FUNCTIONS = ("constant", "linear", "softmax", "sigmoid", "error")
STRATEGIES = ("stochastic", "deterministic", "fixed")
ERRORS = (0.2, 0.3, 0.55, 0.9, 1.6)  # f = 1/e from 5 to 0.6: the five functions differ visibly
NUM_DRAWS = 20_000
STANDARD_ERRORS = 5

Rows = frozenset[int]


def literal_weight(error: float, function: str) -> float:
    """Return the weight of a row in the roulette; for `error` that of staying real."""
    f = 1 / (error + 1e-7)
    return {
        "constant": 1.0,
        "linear": f,
        "softmax": math.exp(f),
        "sigmoid": 1 / (1 + math.exp(-f)),
        "error": error,
    }[function]


def exact_chances(weights: list[float], num: int) -> dict[Rows, float]:
    """Return the chance of each set of `num` rows under roulette without replacement."""
    chances: Counter[Rows] = Counter()
    for order in permutations(range(len(weights)), num):
        left, chance = sum(weights), 1.0
        for row in order:
            chance *= weights[row] / left
            left -= weights[row]
        chances[frozenset(order)] += chance
    return dict(chances)


def exact_quantized(function: str, num: int) -> dict[Rows, float]:
    """Return the chance of each set of `num` quantized rows of ERRORS."""
    weights = [literal_weight(error, function) for error in ERRORS]
    if function != "error":
        return exact_chances(weights, num)
    everything = frozenset(range(len(ERRORS)))
    return {everything - real: p for real, p in exact_chances(weights, len(ERRORS) - num).items()}


@cache
def drawn(errors: tuple[float, ...], function: str, num: int) -> dict[Rows, float]:
    """Return how often `select_rows` took each set of rows."""
    error_M = torch.tensor(errors)
    selection, generator = Selection(function=function), torch.Generator().manual_seed(7)
    masks = torch.stack(
        [select_rows(error_M, num / len(errors), selection, generator) for _ in range(NUM_DRAWS)]
    )
    counts = Counter(tuple(mask) for mask in masks.tolist())
    return {
        frozenset(row for row, taken in enumerate(mask) if taken): count / NUM_DRAWS
        for mask, count in counts.items()
    }


def inclusion(chances: dict[Rows, float], num_rows: int) -> list[float]:
    return [sum(p for rows, p in chances.items() if row in rows) for row in range(num_rows)]


def slack(p: float) -> float:
    return STANDARD_ERRORS * math.sqrt(p * (1 - p) / NUM_DRAWS)


# Chances.


@pytest.mark.parametrize("num", [2, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_are_included_as_often_as_roulette_without_replacement_says(
    function: str, num: int
) -> None:
    exact = inclusion(exact_quantized(function, num), len(ERRORS))
    often = inclusion(drawn(ERRORS, function, num), len(ERRORS))
    assert sum(exact) == pytest.approx(num)
    for expected, measured in zip(exact, often, strict=True):
        assert abs(measured - expected) < slack(expected)


@pytest.mark.parametrize("num", [2, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_sets_of_rows_come_as_often_as_roulette_without_replacement_says(
    function: str, num: int
) -> None:
    often = drawn(ERRORS, function, num)
    exact = exact_quantized(function, num)
    assert set(often) <= set(exact)
    for rows, expected in exact.items():
        assert abs(often.get(rows, 0.0) - expected) < slack(expected)


def test_the_five_functions_are_told_apart_by_these_statistics() -> None:
    exact = {function: inclusion(exact_quantized(function, 2), 5) for function in FUNCTIONS}
    for one in FUNCTIONS:
        for other in FUNCTIONS:
            widest = max(abs(a - b) for a, b in zip(exact[one], exact[other], strict=True))
            assert one == other or widest > 2 * slack(0.5)


def roulette(weights: list[float], num: int, source: random.Random) -> Rows:
    """Turn the wheel `num` times, each time over the rows that are left."""
    left = list(range(len(weights)))
    for _ in range(num):
        ball = source.random() * sum(weights[row] for row in left)
        for row in left:
            ball -= weights[row]
            if ball < 0:
                break
        left.remove(row)
    return frozenset(range(len(weights))) - frozenset(left)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_are_drawn_as_a_wheel_turned_row_by_row_draws_them(function: str) -> None:
    num, num_rows = 3, len(ERRORS)
    weights = [literal_weight(error, function) for error in ERRORS]
    source, counts = random.Random(3), Counter()
    for _ in range(NUM_DRAWS):
        if function == "error":
            quantized = frozenset(range(num_rows)) - roulette(weights, num_rows - num, source)
        else:
            quantized = roulette(weights, num, source)
        counts.update(quantized)
    often = inclusion(drawn(ERRORS, function, num), num_rows)
    for row, measured in enumerate(often):
        by_wheel = counts[row] / NUM_DRAWS
        assert abs(measured - by_wheel) < math.sqrt(2) * slack(by_wheel)


@pytest.mark.parametrize("error", [0.0, 1e-7])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_equal_rows_get_equal_chances_even_where_f_is_1e7(function: str, error: float) -> None:
    often = inclusion(drawn((error,) * 6, function, 3), 6)
    assert all(abs(measured - 0.5) < slack(0.5) for measured in often)


def test_a_row_of_no_error_is_quantized_first_and_a_row_of_all_error_stays_real() -> None:
    generator = torch.Generator().manual_seed(0)
    error_M = torch.tensor([0.3, 0.0, 0.3, 0.3])
    for _ in range(200):
        for function in ("linear", "softmax", "error"):
            assert select_rows(error_M, 0.25, Selection(function), generator)[1]
    worst_M = torch.tensor([0.0, 0.0, 1.0, 0.0])
    for _ in range(200):
        assert not select_rows(worst_M, 0.75, Selection("error"), generator)[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_half_precision_errors_are_drawn_with_float32_noise(
    function: str, dtype: torch.dtype
) -> None:
    error_M = (0.1 + torch.rand(500)).to(dtype)
    masks = [
        select_rows(errors, 0.5, Selection(function), torch.Generator().manual_seed(4))
        for errors in (error_M, error_M.float())
    ]
    assert torch.equal(*masks)


# How many.


@given(
    errors=st.lists(st.floats(0, 2, width=32), min_size=1, max_size=40),
    ratio=st.floats(0, 1),
    function=st.sampled_from(FUNCTIONS),
    strategy=st.sampled_from(STRATEGIES),
)
def test_exactly_the_given_number_of_rows_is_taken(
    errors: list[float], ratio: float, function: str, strategy: str
) -> None:
    mask_M = select_rows(
        torch.tensor(errors), ratio, Selection(function, strategy), torch.Generator()
    )
    assert mask_M.dtype == torch.bool
    assert mask_M.shape == (len(errors),)
    assert mask_M.sum() == math.ceil(ratio * len(errors) - 1e-9)


@given(ratio=st.floats(0, 1), num_rows=st.integers(1, 5000))
def test_the_number_is_the_ceiling_within_a_tolerance(ratio: float, num_rows: int) -> None:
    num = num_quantized(ratio, num_rows)
    assert num == math.ceil(ratio * num_rows - 1e-9)
    assert 0 <= num <= num_rows


@pytest.mark.parametrize(
    ("ratio", "num_rows", "num"),
    [(0.55, 100, 55), (0.07, 100, 7), (0.5, 5, 3), (0.01, 5, 1), (1 / 3, 3, 1), (0.875, 8, 7)],
)
def test_float_rounding_adds_no_row(ratio: float, num_rows: int, num: int) -> None:
    assert num_quantized(ratio, num_rows) == num


@given(num_rows=st.integers(1, 500), whole=st.integers(0, 500))
def test_a_ratio_that_is_a_number_of_rows_takes_that_number(num_rows: int, whole: int) -> None:
    whole = min(whole, num_rows)
    assert num_quantized(whole / num_rows, num_rows) == whole


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_ratio_0_takes_no_row_and_ratio_1_takes_all(function: str, strategy: str) -> None:
    error_M = torch.tensor([0.0, 0.5, 1.0])
    selection = Selection(function, strategy)
    assert select_rows(error_M, 0.0, selection, None).tolist() == [False] * 3
    assert select_rows(error_M, 1.0, selection, None).tolist() == [True] * 3


# Strategies and generators.


@given(errors=st.lists(st.floats(0, 2, width=32), min_size=1, max_size=30), ratio=st.floats(0, 1))
def test_deterministic_takes_the_smallest_errors(errors: list[float], ratio: float) -> None:
    mask_M = select_rows(
        torch.tensor(errors), ratio, Selection(strategy="deterministic"), torch.Generator()
    )
    taken = sorted(range(len(errors)), key=lambda row: errors[row])[: int(mask_M.sum())]
    assert mask_M.nonzero().flatten().tolist() == sorted(taken)


def test_deterministic_leaves_the_generator_alone() -> None:
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    select_rows(torch.rand(9), 0.5, Selection(strategy="deterministic"), generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_equal_seeds_give_equal_masks(function: str, strategy: str) -> None:
    error_M = torch.rand(50, generator=torch.Generator().manual_seed(1))
    one, other = (torch.Generator().manual_seed(11) for _ in range(2))
    for _ in range(10):
        torch.rand(3)  # the global source must play no part
        masks = [select_rows(error_M, 0.5, Selection(function, strategy), g) for g in (one, other)]
        assert torch.equal(*masks)


@pytest.mark.parametrize("strategy", ["stochastic", "fixed"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_other_draws_and_other_seeds_give_other_masks(function: str, strategy: str) -> None:
    error_M = 0.5 + 0.1 * torch.rand(50, generator=torch.Generator().manual_seed(1))
    one, other = torch.Generator().manual_seed(11), torch.Generator().manual_seed(12)
    masks = [
        select_rows(error_M, 0.5, Selection(function, strategy), generator)
        for generator in (one, one, other)
    ]
    assert len({tuple(mask.tolist()) for mask in masks}) == 3


def test_selecting_leaves_the_errors_and_the_global_source_alone() -> None:
    error_M = torch.rand(9, generator=torch.Generator().manual_seed(0))
    errors_before, source_before = error_M.clone(), torch.get_rng_state()
    select_rows(error_M, 0.5, Selection(), torch.Generator().manual_seed(0))
    assert torch.equal(error_M, errors_before)
    assert torch.equal(torch.get_rng_state(), source_before)


@pytest.mark.parametrize(
    ("field", "wrong", "remedy"),
    [
        ("function", "linaer", '"linear"'),
        ("strategy", "stochastik", '"stochastic"'),
        ("granularity", "elements", '"element"'),
        ("function", "zzz", "constant, linear, softmax, sigmoid, error"),
    ],
)
def test_an_unknown_name_is_rejected_with_a_remedy(field: str, wrong: str, remedy: str) -> None:
    with pytest.raises(QuantizationError, match=f"'{wrong}' is unknown.*{remedy}"):
        Selection(**{field: wrong})

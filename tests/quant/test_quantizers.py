"""Laws of the quantizers: levels, scales, errors. Shape names: O rows, K weights in a row."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from sqtune.errors import QuantizationError
from sqtune.quant import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
    quantize_rows,
    row_errors,
)

THRESHOLDS = ("layer_centred", "layer", "row")
BITS = range(2, 9)
TERNARIES = [Ternary(threshold=threshold) for threshold in THRESHOLDS]
FITTED: list[Quantizer] = [
    Binary(),
    *TERNARIES,
    *(Uniform(bits=bits) for bits in BITS),
    *(Uniform(bits=bits, scale_steps=0) for bits in (2, 3, 8)),
]
# A learned step starts from the row's mean and is right only once it has been trained.
LEARNED = [*(LearnedUniform(bits=bits) for bits in BITS), LearnedTernary()]
QUANTIZERS = [*FITTED, *LEARNED]
BY_ROW = [q for q in QUANTIZERS if not isinstance(q, Ternary)]  # no threshold from other rows
SHAPES = npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def matrices(
    low: float, high: float, shapes: st.SearchStrategy = SHAPES, **options: bool
) -> st.SearchStrategy[Tensor]:
    """Float32 matrices of many shapes; exact zeros and equal weights turn up often."""
    weights = st.floats(low, high, width=32, **options)
    return npst.arrays(np.float32, shapes, elements=weights).map(torch.from_numpy)


ANY_FINITE = matrices(-(2.0**100), 2.0**100)
ORDINARY = matrices(-8, 8, allow_subnormal=False)


def squared_error(w_OK: Tensor, q_OK: Tensor) -> Tensor:
    return (w_OK.double() - q_OK.double()).square().sum(dim=1)


# The contract of every quantizer.


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@given(w_OK=ANY_FINITE)
def test_codes_and_scales_are_the_values_bit_for_bit(quantizer: Quantizer, w_OK: Tensor) -> None:
    rows = quantize_rows(w_OK, quantizer)
    assert rows.codes_OK.dtype == torch.int8
    assert rows.codes_OK.shape == w_OK.shape
    assert rows.scale_O.dtype == w_OK.dtype
    assert rows.scale_O.shape == w_OK.shape[:1]
    assert (rows.scale_O >= 0).all()
    assert rows.scale_O.isfinite().all()
    rebuilt_OK = (rows.codes_OK.float() + rows.offset) * rows.scale_O[:, None]
    assert torch.equal(rows.values(), rebuilt_OK)
    assert rows.values().dtype == w_OK.dtype


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@given(w_OK=ANY_FINITE)
def test_a_quantized_weight_never_has_the_other_sign(quantizer: Quantizer, w_OK: Tensor) -> None:
    q_OK = quantize_rows(w_OK, quantizer).values()
    # On the 2-bit grid a weight of next to nothing is as near to one level as to the other.
    is_nothing_OK = w_OK.abs() <= 1e-6 * w_OK.abs().amax(dim=1, keepdim=True)
    half_integer = quantizer in (Uniform(bits=2), Uniform(2, scale_steps=0), LearnedUniform(bits=2))
    may_flip_OK = is_nothing_OK & half_integer
    assert ((q_OK.sign() * w_OK.sign() >= 0) | may_flip_OK).all()


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@given(w_OK=ORDINARY)
def test_quantizing_leaves_its_input_alone(quantizer: Quantizer, w_OK: Tensor) -> None:
    before_OK = w_OK.clone()
    quantize_rows(w_OK, quantizer)
    assert torch.equal(w_OK, before_OK)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_a_zero_row_stays_zero_and_leaves_the_other_rows_alone(quantizer: Quantizer) -> None:
    w_OK = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 3.0]], dtype=torch.float64)
    rows = quantize_rows(w_OK, quantizer)
    assert rows.scale_O[0] == 0
    assert (rows.values()[0] == 0).all()
    assert rows.scale_O[1] > 0


@pytest.mark.parametrize("quantizer", FITTED, ids=str)
@pytest.mark.parametrize("weight", [-3.0, 0.0, 0.7])
def test_a_row_of_one_weight_is_its_own_level(quantizer: Quantizer, weight: float) -> None:
    w_OK = torch.tensor([[weight]])
    q_OK = quantize_rows(w_OK, quantizer).values()
    assert q_OK.item() == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("quantizer", BY_ROW, ids=str)
@given(w_OK=ORDINARY)
def test_rows_are_quantized_independently(quantizer: Quantizer, w_OK: Tensor) -> None:
    whole = quantize_rows(w_OK, quantizer)
    for row, w_K in enumerate(w_OK):
        alone = quantize_rows(w_K[None], quantizer)
        assert torch.equal(alone.codes_OK[0], whole.codes_OK[row])
        assert alone.scale_O.item() == pytest.approx(whole.scale_O[row].item(), rel=1e-6)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("power", [-20, 20])
@given(w_OK=matrices(-8, 8, allow_subnormal=False))
def test_scaling_the_weights_scales_the_values(
    quantizer: Quantizer, power: int, w_OK: Tensor
) -> None:
    assume((w_OK.abs()[w_OK != 0] > 1e-6).all())  # far from where float32 ends
    rows, scaled = quantize_rows(w_OK, quantizer), quantize_rows(w_OK * 2.0**power, quantizer)
    assert torch.equal(scaled.codes_OK, rows.codes_OK)
    assert torch.equal(scaled.scale_O, rows.scale_O * 2.0**power)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_scales_keep_the_dtype_of_the_weights(quantizer: Quantizer, dtype: torch.dtype) -> None:
    w_OK = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = quantize_rows(w_OK, quantizer)
    assert rows.scale_O.dtype == rows.values().dtype == dtype


def test_float_has_no_codes() -> None:
    with pytest.raises(TypeError, match="Float"):
        quantize_rows(torch.ones(1, 1), Float())


def test_bits_are_those_of_the_codes() -> None:
    assert (Float.bits, Binary.bits, Ternary.bits) == (32, 1, 2)


# Binary.


@given(w_OK=ORDINARY)
def test_binary_is_the_sign_times_the_mean_absolute_weight(w_OK: Tensor) -> None:
    rows = quantize_rows(w_OK, Binary())
    for row, w_K in enumerate(w_OK.tolist()):
        assert rows.codes_OK[row].tolist() == [1 if w >= 0 else -1 for w in w_K]
        mean = math.fsum(abs(w) for w in w_K) / len(w_K)
        assert rows.scale_O[row].item() == pytest.approx(mean, rel=1e-6)


@given(w_OK=ORDINARY, factor=st.floats(0, 3), flip=st.integers(0, 80))
def test_binary_is_the_least_squares_optimum(w_OK: Tensor, factor: float, flip: int) -> None:
    rows = quantize_rows(w_OK, Binary())
    best_O = squared_error(w_OK, rows.values())
    other_scale_OK = rows.scale_O[:, None] * factor
    codes_OK = rows.codes_OK.clone()
    codes_OK.view(-1)[flip % codes_OK.numel()] *= -1
    slack_O = 1e-6 * (w_OK.double().square().sum(dim=1) + 1e-30)
    assert (best_O <= squared_error(w_OK, rows.codes_OK * other_scale_OK) + slack_O).all()
    assert (best_O <= squared_error(w_OK, codes_OK * other_scale_OK) + slack_O).all()


@given(w_OK=ORDINARY)
def test_binary_scale_solves_the_normal_equation_of_its_codes(w_OK: Tensor) -> None:
    rows = quantize_rows(w_OK, Binary())
    codes_OK = rows.codes_OK.double()
    optimum_O = (codes_OK * w_OK).sum(dim=1) / codes_OK.square().sum(dim=1)
    torch.testing.assert_close(rows.scale_O.double(), optimum_O, rtol=1e-6, atol=1e-30)


# Ternary.


def ternary_threshold(w_OK: list[list[float]], row: int, threshold: str) -> float:
    """Return D for one row, as the method's description says it."""
    layer = [w for w_K in w_OK for w in w_K]
    centre = math.fsum(layer) / len(layer)
    of_mean = {
        "layer_centred": [abs(w - centre) for w in layer],
        "layer": [abs(w) for w in layer],
        "row": [abs(w) for w in w_OK[row]],
    }[threshold]
    return 0.7 * math.fsum(of_mean) / len(of_mean)


def literal_ternary(w_K: list[float], d: float) -> tuple[list[int], float]:
    above = [abs(w) for w in w_K if abs(w) > d]
    codes = [0 if abs(w) <= d else 1 if w > 0 else -1 for w in w_K]
    return codes, math.fsum(above) / len(above) if above else 0.0


@pytest.mark.parametrize("threshold", THRESHOLDS)
@given(w_OK=ORDINARY.map(Tensor.double))
def test_ternary_is_its_literal_transcription(threshold: str, w_OK: Tensor) -> None:
    rows = quantize_rows(w_OK, Ternary(threshold=threshold))
    weights = w_OK.tolist()
    for row, w_K in enumerate(weights):
        d = ternary_threshold(weights, row, threshold)
        assume(d == 0 or all(abs(abs(w) - d) > 1e-12 * d for w in w_K))  # ties: the next test
        codes, scale = literal_ternary(w_K, d)
        assert rows.codes_OK[row].tolist() == codes
        assert rows.scale_O[row].item() == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize(
    ("threshold", "w_OK"),
    [
        ("row", [[7.0, 13.0]]),
        ("layer", [[7.0, 13.0]]),
        ("layer_centred", [[7.0, -13.0, 3.0 + 10.0, -7.0]]),
    ],
)
def test_a_weight_at_the_threshold_is_zero(threshold: str, w_OK: list[list[float]]) -> None:
    rows = quantize_rows(torch.tensor(w_OK), Ternary(threshold=threshold))
    assert rows.codes_OK.tolist() == [[0 if abs(w) == 7 else int(w / 13) for w in w_OK[0]]]
    assert rows.scale_O.tolist() == [13.0]


def test_the_three_thresholds_differ() -> None:
    w_OK = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4]])
    codes = {t: quantize_rows(w_OK, Ternary(threshold=t)).codes_OK.tolist() for t in THRESHOLDS}
    # D: 0.7 * 1.225 = 0.8575 centred, 0.7 * 1.375 = 0.9625 a layer, 1.75 and 0.175 a row.
    assert codes["layer_centred"] == codes["layer"] == [[1, 1, 1, 1], [0, 0, 0, 0]]
    assert codes["row"] == [[0, 1, 1, 1], [0, 1, 1, 1]]
    low_OK = torch.tensor([[10.0, 10.0, 10.0, 6.0]])  # D: 1.05 centred, 6.3 otherwise
    codes = {t: quantize_rows(low_OK, Ternary(threshold=t)).codes_OK.tolist() for t in THRESHOLDS}
    assert codes["layer_centred"] == [[1, 1, 1, 1]]
    assert codes["layer"] == codes["row"] == [[1, 1, 1, 0]]


@pytest.mark.parametrize("quantizer", TERNARIES, ids=str)
@given(w_OK=ORDINARY)
def test_ternary_scale_is_the_least_squares_optimum_of_its_codes(
    quantizer: Ternary, w_OK: Tensor
) -> None:
    rows = quantize_rows(w_OK, quantizer)
    codes_OK = rows.codes_OK.double()
    energy_O = codes_OK.square().sum(dim=1)
    optimum_O = (codes_OK * w_OK).sum(dim=1) / energy_O.clamp(min=1)
    torch.testing.assert_close(rows.scale_O.double(), optimum_O, rtol=1e-6, atol=1e-30)


# Uniform.


@pytest.mark.parametrize("bits", BITS)
@given(w_OK=ANY_FINITE, scale_steps=st.integers(0, 8))
def test_uniform_codes_stay_in_their_range(bits: int, w_OK: Tensor, scale_steps: int) -> None:
    rows = quantize_rows(w_OK, Uniform(bits=bits, scale_steps=scale_steps))
    top = 2 ** (bits - 1) - 1
    low = -2 if bits == 2 else -top
    assert low <= rows.codes_OK.min()
    assert rows.codes_OK.max() <= top


@pytest.mark.parametrize("bits", BITS[1:])
def test_a_scale_below_max_abs_clips_symmetrically(bits: int) -> None:
    w_OK = torch.randn(200, 50, generator=torch.Generator().manual_seed(3))
    w_OK[:, 0] = -w_OK[:, 1:].abs().amax(dim=1) * 1.3  # one far weight on the negative side
    codes_OK = quantize_rows(w_OK, Uniform(bits=bits, scale_steps=8)).codes_OK
    assert codes_OK.min() == -(2 ** (bits - 1) - 1)


@pytest.mark.parametrize("bits", BITS)
def test_uniform_has_its_number_of_levels_symmetric_around_zero(bits: int) -> None:
    w_OK = torch.linspace(-1, 1, 10_001)[None]
    levels = quantize_rows(w_OK, Uniform(bits=bits, scale_steps=0)).values().unique()
    assert len(levels) == (4 if bits == 2 else 2**bits - 1)
    assert torch.equal(levels, -levels.flip(0))


def test_two_bits_have_half_integer_levels() -> None:
    rows = quantize_rows(torch.tensor([[-3.0, -1.0, 1.0, 3.0]]), Uniform(bits=2))
    assert rows.scale_O.tolist() == [2.0]
    assert rows.offset == 0.5
    assert (rows.codes_OK + rows.offset).tolist() == [[-1.5, -0.5, 0.5, 1.5]]
    assert rows.values().tolist() == [[-3.0, -1.0, 1.0, 3.0]]


@pytest.mark.parametrize("bits", BITS[1:])
def test_three_bits_and_more_have_zero_among_their_levels(bits: int) -> None:
    rows = quantize_rows(torch.tensor([[0.0, 1.0]]), Uniform(bits=bits))
    assert rows.offset == 0
    assert rows.codes_OK[0, 0] == 0


@pytest.mark.parametrize("bits", BITS)
@given(w_OK=ORDINARY)
def test_max_abs_takes_the_nearest_level_of_the_grid(bits: int, w_OK: Tensor) -> None:
    rows = quantize_rows(w_OK, Uniform(bits=bits, scale_steps=0))
    offset = 0.5 if bits == 2 else 0.0
    top = 2 ** (bits - 1) - 1 + offset
    levels_L = torch.arange(-top, top + 1, dtype=torch.float64)
    scale_O = w_OK.double().abs().amax(dim=1) / top
    torch.testing.assert_close(rows.scale_O.double(), scale_O, rtol=1e-6, atol=1e-30)
    distance_OKL = (w_OK.double()[..., None] - levels_L * scale_O[:, None, None]).abs()
    distance_OK = (w_OK - rows.values()).abs().double()
    slack_OK = 1e-6 * w_OK.double().abs().amax(dim=1, keepdim=True) + 1e-37
    assert (distance_OK <= distance_OKL.amin(dim=2) + slack_OK).all()


@pytest.mark.parametrize("bits", BITS)
@given(w_OK=ORDINARY, scale_steps=st.integers(1, 8))
def test_least_squares_steps_are_never_worse_than_max_abs(
    bits: int, w_OK: Tensor, scale_steps: int
) -> None:
    plain, refined = (
        squared_error(w_OK, quantize_rows(w_OK, Uniform(bits=bits, scale_steps=steps)).values())
        for steps in (0, scale_steps)
    )
    rounding_O = 1e-12 * w_OK.double().square().sum(dim=1) + 1e-30
    assert (refined <= plain * (1 + 1e-5) + rounding_O).all()


@pytest.mark.parametrize("bits", BITS)
def test_more_least_squares_steps_never_lose_and_do_gain(bits: int) -> None:
    w_OK = torch.randn(64, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors_O = [
        squared_error(w_OK, quantize_rows(w_OK, Uniform(bits=bits, scale_steps=steps)).values())
        for steps in range(6)
    ]
    for fewer_O, more_O in itertools.pairwise(errors_O):
        assert (more_O <= fewer_O).all()
    gain = 0.8 if bits <= 3 else 1.0
    assert errors_O[-1].sum() < gain * errors_O[0].sum()


@pytest.mark.parametrize("scale_steps", [0, 5])
def test_more_bits_have_a_smaller_error(scale_steps: int) -> None:
    w_OK = torch.randn(16, 200, generator=torch.Generator().manual_seed(2))
    grids = [Uniform(bits=bits, scale_steps=scale_steps) for bits in BITS]
    errors = [squared_error(w_OK, quantize_rows(w_OK, grid).values()) for grid in grids]
    for fewer_bits_O, more_bits_O in itertools.pairwise(errors):
        assert (more_bits_O < fewer_bits_O).all()


# Idempotence: what is quantized already is left alone, within rounding.

IDEMPOTENT = [
    Binary(),
    Ternary(threshold="row"),
    Ternary(threshold="layer"),
    *(Uniform(bits=bits, scale_steps=0) for bits in BITS),
]


@pytest.mark.parametrize("quantizer", IDEMPOTENT, ids=str)
@given(w_OK=ORDINARY)
def test_quantizing_twice_is_quantizing_once(quantizer: Quantizer, w_OK: Tensor) -> None:
    once = quantize_rows(w_OK, quantizer)
    twice = quantize_rows(once.values(), quantizer)
    torch.testing.assert_close(twice.values(), once.values(), rtol=1e-5, atol=1e-30)


# The relative quantization error of a row.


def literal_row_error(w_K: list[float], q_K: list[float]) -> float:
    norm = math.fsum(abs(w) for w in w_K)
    if norm == 0:
        return 0.0 if all(q == 0 for q in q_K) else 1.0
    return math.fsum(abs(w - q) for w, q in zip(w_K, q_K, strict=True)) / norm


@given(pair=matrices(-8, 8, npst.array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_row_errors_are_their_literal_transcription(pair: Tensor) -> None:
    w_MK = pair[0].double()
    q_MK = pair[-1].double().roll(1)
    literal = [literal_row_error(w, q) for w, q in zip(w_MK.tolist(), q_MK.tolist(), strict=True)]
    assert row_errors(w_MK, q_MK).tolist() == pytest.approx(literal, rel=1e-12)


def test_a_zero_row_has_error_0_where_it_stays_zero_and_1_where_it_does_not() -> None:
    w_MK = torch.tensor([[0.0, 0.0], [0.0, 0.0], [-0.0, 0.0], [1.0, -1.0]])
    q_MK = torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.0, -0.0], [1.0, -1.0]])
    assert row_errors(w_MK, q_MK).tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("quantizer", FITTED, ids=str)
@given(w_OK=ORDINARY)
def test_the_relative_error_of_a_row_is_bounded(quantizer: Quantizer, w_OK: Tensor) -> None:
    error_O = row_errors(w_OK, quantize_rows(w_OK, quantizer).values())
    match quantizer:
        case Uniform(bits=2):
            bound = 1 + w_OK.shape[1] / 3  # zeros become half a scale each
        case Uniform():
            bound = 1  # zero is a level, and the nearest one is taken
        case _:
            bound = 2
    assert ((error_O >= 0) & (error_O <= bound * 1.0001)).all()


# What a specification rejects.


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 2.5])
def test_other_bits_than_2_to_8_are_rejected(bits: int) -> None:
    with pytest.raises(QuantizationError, match=f"2 to 8 bits, not {bits}.*binary"):
        Uniform(bits=bits)


@pytest.mark.parametrize("scale_steps", [-1, 101])
def test_scale_steps_outside_0_to_100_are_rejected(scale_steps: int) -> None:
    with pytest.raises(QuantizationError, match=f"0 to 100, not {scale_steps}"):
        Uniform(scale_steps=scale_steps)


def test_an_unknown_threshold_is_rejected_with_the_nearest_name() -> None:
    with pytest.raises(QuantizationError, match='"layer_centred"'):
        Ternary(threshold="layer_centered")

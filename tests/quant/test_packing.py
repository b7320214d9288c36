"""Laws of packing: codes come back exactly, and take exactly the bytes that were said."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sqtune.quant import (
    Binary,
    Float,
    Quantizer,
    Ternary,
    Uniform,
    pack,
    packed_bytes,
    quantize_rows,
    unpack,
)

CODES: dict[Quantizer, list[int]] = {
    Binary(): [-1, 1],
    Ternary(): [-1, 0, 1],
    Uniform(bits=2): [-2, -1, 0, 1],
    **{Uniform(bits=b): list(range(1 - 2 ** (b - 1), 2 ** (b - 1))) for b in range(3, 9)},
}
ACROSS = pytest.mark.parametrize("quantizer", CODES, ids=str)


def literal_bytes(num_codes: int, quantizer: Quantizer) -> int:
    """Return the bytes of the layout: 8 codes a byte, 5 trits a byte, or 8 codes in `bits`."""
    match quantizer:
        case Binary():
            return math.ceil(num_codes / 8)
        case Ternary():
            return math.ceil(num_codes / 5)
        case Uniform(bits=2 | 4 | 8 as bits):
            return math.ceil(num_codes / (8 // bits))
        case Uniform(bits=bits):
            return bits * math.ceil(num_codes / 8)
        case _:
            raise AssertionError(quantizer)


@ACROSS
@given(data=st.data())
def test_codes_come_back_exactly_from_exactly_their_bytes(
    quantizer: Quantizer, data: st.DataObject
) -> None:
    codes = data.draw(st.lists(st.sampled_from(CODES[quantizer]), max_size=70))
    packed = pack(torch.tensor(codes, dtype=torch.int8), quantizer)
    assert packed.dtype == torch.uint8
    assert packed.shape == (packed_bytes(len(codes), quantizer),)
    unpacked = unpack(packed, len(codes), quantizer)
    assert unpacked.dtype == torch.int8
    assert unpacked.tolist() == codes


@ACROSS
def test_the_number_of_bytes_is_that_of_the_layout(quantizer: Quantizer) -> None:
    for num_codes in range(42):
        codes = torch.tensor(CODES[quantizer][:1] * num_codes, dtype=torch.int8)
        expected = literal_bytes(num_codes, quantizer)
        assert packed_bytes(num_codes, quantizer) == pack(codes, quantizer).numel() == expected


@ACROSS
def test_every_code_survives_at_every_place_of_a_byte(quantizer: Quantizer) -> None:
    levels = CODES[quantizer]
    for shift in range(8):
        codes = torch.tensor(levels[:1] * shift + levels, dtype=torch.int8)
        assert torch.equal(unpack(pack(codes, quantizer), len(codes), quantizer), codes)


@ACROSS
def test_a_quantizers_own_codes_come_back_in_any_shape(quantizer: Quantizer) -> None:
    w_OK = torch.randn(6, 37, generator=torch.Generator().manual_seed(0))
    codes_OK = quantize_rows(w_OK, quantizer).codes_OK
    unpacked = unpack(pack(codes_OK, quantizer), codes_OK.numel(), quantizer)
    assert torch.equal(unpacked.reshape(6, 37), codes_OK)
    across = unpack(pack(codes_OK.T, quantizer), codes_OK.numel(), quantizer)
    assert torch.equal(across.reshape(37, 6), codes_OK.T)


@ACROSS
@pytest.mark.parametrize(("num_codes", "num_bytes"), [(9, 0), (9, 99), (0, 1), (41, 1)])
def test_a_wrong_number_of_bytes_is_an_error(
    quantizer: Quantizer, num_codes: int, num_bytes: int
) -> None:
    with pytest.raises(ValueError, match=rf"{num_codes} codes take \d+ bytes, not {num_bytes}"):
        unpack(torch.zeros(num_bytes, dtype=torch.uint8), num_codes, quantizer)


@pytest.mark.parametrize(
    ("quantizer", "codes", "packed"),
    [
        (Binary(), [1, -1, 1, 1, -1, -1, -1, -1, 1], [0b00001101, 1]),
        (Ternary(), [1, 0, -1, 1, 1, 0], [2 + 3 + 0 + 2 * 27 + 2 * 81, 1]),
        (Uniform(bits=2), [-2, -1, 0, 1, 1], [0b11100100, 3]),
        (Uniform(bits=3), [-3, 3], [0b11, 0b10, 0b10]),  # digits 1 and 7, plane by plane
        (Uniform(bits=4), [-7, 7, 0], [0xF1, 8]),
        (Uniform(bits=8), [-127, 0, 127], [1, 128, 255]),
    ],
)
def test_the_first_code_stands_in_the_lowest_digit(
    quantizer: Quantizer, codes: list[int], packed: list[int]
) -> None:
    assert pack(torch.tensor(codes, dtype=torch.int8), quantizer).tolist() == packed


def test_float_takes_four_bytes_a_weight_and_has_nothing_to_pack() -> None:
    assert packed_bytes(7, Float()) == 28
    with pytest.raises(TypeError, match="no codes to pack"):
        pack(torch.zeros(4, dtype=torch.int8), Float())
    with pytest.raises(TypeError, match="no codes to unpack"):
        unpack(torch.zeros(16, dtype=torch.uint8), 4, Float())

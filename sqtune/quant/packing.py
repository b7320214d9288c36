"""Packing: integer codes <-> bytes, exactly, and how many bytes a quantizer's codes take.

1 bit: 8 codes a byte. Ternary: 5 codes a byte (3**5 = 243). 2, 4 and 8 bits: 4, 2 and 1 a byte.
3, 5, 6 and 7 bits: one bit plane after the other, each 8 codes a byte. The first code of a byte
stands in its lowest digit; unused digits are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sqtune.quant.spec import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
)


def packed_bytes(num_codes: int, quantizer: Quantizer) -> int:
    """Return the exact number of bytes of `num_codes` weights (4 each for Float).

    >>> packed_bytes(9, Binary()), packed_bytes(11, Ternary()), packed_bytes(9, Uniform(bits=3))
    (2, 3, 6)
    """
    match quantizer:
        case Float():
            return 4 * num_codes
        case Binary():
            return -(-num_codes // 8)
        case Ternary() | LearnedTernary():
            return -(-num_codes // 5)
        case Uniform(bits=2 | 4 | 8 as bits) | LearnedUniform(bits=2 | 4 | 8 as bits):
            return -(-num_codes * bits // 8)
        case Uniform(bits=bits) | LearnedUniform(bits=bits):
            return bits * -(-num_codes // 8)


def _to_digits(codes: Tensor, quantizer: Quantizer) -> Tensor:
    """Map codes to digits 0, 1, 2, ... (int64, flat)."""
    codes = codes.flatten().long()
    match quantizer:
        case Binary():
            return (codes + 1) // 2
        case Ternary() | LearnedTernary():
            return codes + 1
        case Uniform(bits=bits) | LearnedUniform(bits=bits):
            return codes + (1 << (bits - 1))
        case _:
            raise TypeError("float weights have no codes to pack")


def _from_digits(digits: Tensor, quantizer: Quantizer) -> Tensor:
    match quantizer:
        case Binary():
            codes = 2 * digits - 1
        case Ternary() | LearnedTernary():
            codes = digits - 1
        case Uniform(bits=bits) | LearnedUniform(bits=bits):
            codes = digits - (1 << (bits - 1))
        case _:
            raise TypeError("float weights have no codes to unpack")
    return codes.to(torch.int8)


def _join(digits: Tensor, base: int, per_byte: int) -> Tensor:
    padded: Tensor = torch.nn.functional.pad(digits, (0, -digits.numel() % per_byte))
    powers = base ** torch.arange(per_byte, device=digits.device)
    sums: Tensor = (padded.reshape(-1, per_byte) * powers).sum(dim=1)
    return sums.to(torch.uint8)


def _split(packed: Tensor, base: int, per_byte: int) -> Tensor:
    powers = base ** torch.arange(per_byte, device=packed.device)
    return (packed.long()[:, None] // powers % base).flatten()


def _layout(quantizer: Quantizer) -> tuple[int, int, int]:
    """Return (digit base, digits a byte, number of planes)."""
    match quantizer:
        case Ternary() | LearnedTernary():
            return 3, 5, 1
        case Uniform(bits=2 | 4 | 8 as bits) | LearnedUniform(bits=2 | 4 | 8 as bits):
            return 2**bits, 8 // bits, 1
        case Uniform(bits=bits) | LearnedUniform(bits=bits):
            return 2, 8, bits
        case _:
            return 2, 8, 1


def pack(codes: Tensor, quantizer: Quantizer) -> Tensor:
    """Pack integer codes of any shape into a flat uint8 tensor of `packed_bytes` entries.

    >>> pack(torch.tensor([1, -1, 1, 1], dtype=torch.int8), Binary()).tolist()
    [13]
    """
    base, per_byte, num_planes = _layout(quantizer)
    digits = _to_digits(codes, quantizer)
    if num_planes == 1:
        return _join(digits, base, per_byte)
    return torch.cat([_join(digits >> plane & 1, 2, 8) for plane in range(num_planes)])


def unpack(packed: Tensor, num_codes: int, quantizer: Quantizer) -> Tensor:
    """Return the `num_codes` codes (int8, flat) that `pack` was given.

    Raises:
        ValueError: `packed` has not exactly the bytes that `num_codes` codes take.
    """
    expected = packed_bytes(num_codes, quantizer)
    if packed.numel() != expected:
        raise ValueError(f"{num_codes} codes take {expected} bytes, not {packed.numel()}")
    base, per_byte, num_planes = _layout(quantizer)
    if num_planes == 1:
        digits = _split(packed, base, per_byte)[:num_codes]
    else:
        planes = [_split(plane, 2, 8)[:num_codes] for plane in packed.chunk(num_planes)]
        digits = torch.stack([bit << plane for plane, bit in enumerate(planes)]).sum(dim=0)
    return _from_digits(digits, quantizer)

"""How weights stand in an ONNX file: the codes of all layers of one kind in one tensor of bytes.

The graph unpacks them (a look-up table that it computes itself, then `Split` into layers); all of
that hangs on constants alone, so that ONNX Runtime does it once, when it loads the file.

Kinds (a code's first digit is the lowest of its byte; no padding between layers, zeros at the end):
binary: 8 codes a byte, digit (level + 1) / 2. ternary: 5 a byte, base 3, digit level + 1.
2 bits: 4 a byte, digit (level + 3) / 2. 4 bits: 2 a byte, digit level + 8. 8 bits: int8 levels.
planes K: K rows of bytes, row i the bits 2**i of the digits level + 2**(K - 1), 8 a byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sqtune.deploy.graph import Codes, Packed
from sqtune.deploy.onnx.writer import OnnxWriter
from sqtune.quant import Binary, LearnedTernary, LearnedUniform, Quantizer, Ternary, Uniform

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Digits:
    """How levels become digits: level == factor * digit - shift, `per_byte` digits of a base."""

    base: int
    per_byte: int
    factor: int
    shift: int


DIGITS = {
    "binary": Digits(2, 8, 2, 1),
    "ternary": Digits(3, 5, 1, 1),
    "2 bits": Digits(4, 4, 2, 3),
    "4 bits": Digits(16, 2, 1, 8),
}
BIT = Digits(2, 8, 1, 0)
PLANES = "planes "
BYTES = "8 bits"


def kind_of(quantizer: Quantizer) -> str:
    """Return how a quantizer's codes are packed."""
    match quantizer:
        case Binary():
            return "binary"
        case Ternary() | LearnedTernary():
            return "ternary"
        case Uniform(bits=2 | 4 | 8 as bits) | LearnedUniform(bits=2 | 4 | 8 as bits):
            return f"{bits} bits"
        case Uniform(bits=bits) | LearnedUniform(bits=bits):
            return f"{PLANES}{bits}"
    raise AssertionError(quantizer)


# What levels are multiplied by where inputs are integers too: up to 64 (sqtune.deploy.onnx.layers).
FACTORS = {"binary": 64, "ternary": 64, "2 bits": 16, "4 bits": 8, BYTES: 1}
FACTORS |= {f"{PLANES}{bits}": 1 << (7 - bits) for bits in (3, 5, 6, 7)}


@dataclass(frozen=True, slots=True)
class Levels:
    """Where a layer's levels are.

    Attributes:
        name: Of their value in the graph, in the weight's shape: int8, or float32 if `is_float`.
        factor: What they are multiplied by there; a power of two.
        kind: How they are packed.
        tensor: Name of the stored tensor.
        first: Index of the layer's first code in it.
    """

    name: str
    factor: int
    kind: str
    tensor: str
    first: int
    is_float: bool = False


def store(writer: OnnxWriter, layers: Sequence[Packed], factors: Mapping[str, int]) -> list[Levels]:
    """Write the codes of layers and what unpacks them.

    Args:
        writer: Takes them.
        layers: Their weights.
        factors: What all levels of a kind are multiplied by.
    """
    kinds = [kind_of(layer.quantizer) for layer in layers]
    stored: dict[int, Levels] = {}
    for kind in dict.fromkeys(kinds):
        members = [index for index, other in enumerate(kinds) if other == kind]
        levels = [layers[index].levels.ravel() for index in members]
        sizes = [len(part) for part in levels]
        tensor, flat, total = _unpacked(writer, kind, np.concatenate(levels), factors[kind])
        names = _split(writer, flat, sizes, total)
        first = 0
        for index, name, size in zip(members, names, sizes, strict=True):
            shaped = writer.node("Reshape", name, writer.integers(layers[index].codes.shape))
            stored[index] = Levels(shaped, factors[kind], kind, tensor, first)
            first += size
    return [stored[index] for index in range(len(layers))]


def store_unpacked(
    writer: OnnxWriter, layers: Sequence[Packed], factors: Mapping[str, int]
) -> list[Levels]:
    """Write levels as plain int8 tensors: what `store` has become when the file is loaded."""
    kinds = [kind_of(layer.quantizer) for layer in layers]
    tensors = [
        writer.tensor(layer.levels * np.int8(factors[kind]))
        for layer, kind in zip(layers, kinds, strict=True)
    ]
    return [
        Levels(tensor, factors[kind], kind, tensor, 0)
        for tensor, kind in zip(tensors, kinds, strict=True)
    ]


def _unpacked(writer: OnnxWriter, kind: str, levels: Codes, factor: int) -> tuple[str, str, int]:
    """Return (stored tensor, its codes as one flat value, how many these are with padding)."""
    if kind == BYTES:
        tensor = writer.tensor(levels)
        return tensor, tensor, len(levels)
    if kind.startswith(PLANES):
        return _unpacked_planes(writer, int(kind.removeprefix(PLANES)), levels, factor)
    digits = DIGITS[kind]
    packed = _joined((levels.astype(np.int64) + digits.shift) // digits.factor, digits)
    tensor = writer.tensor(packed)
    times = replace(digits, factor=factor * digits.factor, shift=factor * digits.shift)
    flat = _looked_up(writer, tensor, times, [-1])
    return tensor, flat, len(packed) * digits.per_byte


def _unpacked_planes(
    writer: OnnxWriter, bits: int, levels: Codes, factor: int
) -> tuple[str, str, int]:
    values = levels.astype(np.int64) + (1 << (bits - 1))
    packed = np.stack([_joined(values >> plane & 1, BIT) for plane in range(bits)])
    tensor = writer.tensor(packed)
    planes = _looked_up(writer, tensor, BIT, [bits, -1])
    weights = writer.constant(np.array([[factor << plane for plane in range(bits)]], np.uint8))
    sums = writer.node("MatMulInteger", weights, planes)
    centred = writer.node("Sub", sums, writer.number(factor << (bits - 1), np.int32))
    flat = writer.node("Reshape", writer.cast(centred, np.int8), writer.integers([-1]))
    return tensor, flat, packed.shape[1] * 8


def _looked_up(writer: OnnxWriter, tensor: str, digits: Digits, shape: list[int]) -> str:
    indices = writer.cast(tensor, np.int32)
    rows = writer.node("Gather", _table(writer, digits), indices)
    return writer.node("Reshape", rows, writer.integers(shape))


def _table(writer: OnnxWriter, digits: Digits) -> str:
    """Return the levels in each byte (int8, bytes x levels); computed by the graph, not stored."""
    zero, one = writer.number(0, np.int32), writer.number(1, np.int32)
    numbers = writer.node("Range", zero, writer.number(256, np.int32), one)
    column = writer.node("Unsqueeze", numbers, writer.integers([1]))
    powers = np.array([digits.base**place for place in range(digits.per_byte)], np.int32)
    table = writer.node("Div", column, writer.constant(powers))
    table = writer.node("Mod", table, writer.number(digits.base, np.int32))
    if digits.factor != 1:
        table = writer.node("Mul", table, writer.number(digits.factor, np.int32))
    if digits.shift:
        table = writer.node("Sub", table, writer.number(digits.shift, np.int32))
    return writer.cast(table, np.int8)


def _split(writer: OnnxWriter, flat: str, sizes: list[int], total: int) -> tuple[str, ...]:
    """Return the parts of a flat value, in order; what is left at its end is padding."""
    parts = [*sizes, total - sum(sizes)] if total > sum(sizes) else sizes
    if len(parts) == 1:
        return (flat,)
    names = writer.nodes("Split", flat, writer.integers(parts), num_results=len(parts))
    return names[: len(sizes)]


def _joined(values: npt.NDArray[np.int64], digits: Digits) -> Bytes:
    """Return digits as bytes, the first one lowest; unused ones are zero."""
    padded = np.pad(values, (0, -len(values) % digits.per_byte))
    powers = digits.base ** np.arange(digits.per_byte)
    packed: Bytes = (padded.reshape(-1, digits.per_byte) * powers).sum(axis=1).astype(np.uint8)
    return packed


def joined_bits(values: npt.NDArray[np.int64], bits: int) -> Bytes:
    """Return digits of 1, 2 or 4 bits as bytes, the first one lowest; unused ones are zero."""
    return _joined(values, Digits(1 << bits, 8 // bits, 1, 0))

"""Weights as ONNX's own tensors of 2, 4 and 8 bits, for compilers that take them.

Kinds: int2, int4 and int8 hold levels; "int2 odd" holds (level - 1) / 2 of the levels -3, -1, 1, 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sqtune.deploy.graph import Codes, Packed
from sqtune.deploy.onnx.weights import FACTORS, Levels, joined_bits, kind_of
from sqtune.deploy.onnx.writer import OnnxWriter
from sqtune.quant import Quantizer

ODD = "int2 odd"
KINDS = {"binary": "int2", "ternary": "int2", "2 bits": ODD, "planes 3": "int4", "4 bits": "int4"}
BITS = {"int2": 2, ODD: 2, "int4": 4, "int8": 8}


def native_kind(quantizer: Quantizer) -> str:
    """Return the tensor type that holds a quantizer's levels."""
    return KINDS.get(kind_of(quantizer), "int8")


def versions(quantizers: Iterable[Quantizer]) -> tuple[int, int, str] | None:
    """Return (opset, IR, oldest ONNX Runtime) for types of under 8 bits; None if none is needed."""
    bits = min((BITS[native_kind(quantizer)] for quantizer in quantizers), default=8)
    return {2: (25, 13, "1.24.4"), 4: (21, 10, "1.23.2")}.get(bits)


def store_native(
    writer: OnnxWriter, layers: Sequence[Packed], as_integers: Sequence[bool]
) -> list[Levels]:
    """Write each layer's levels as a tensor of its own.

    Args:
        writer: Takes them.
        layers: The weights.
        as_integers: Whether a layer's levels are wanted as integers, rather than floats.
    """
    return [_stored(writer, *pair) for pair in zip(layers, as_integers, strict=True)]


def _stored(writer: OnnxWriter, layer: Packed, is_integer: bool) -> Levels:
    kind = native_kind(layer.quantizer)
    factor = FACTORS[kind_of(layer.quantizer)] if is_integer else 1
    codes = layer.codes if kind == ODD else layer.levels
    tensor = _tensor(writer, codes, BITS[kind])
    if kind == "int8" and factor == 1:
        return Levels(tensor, 1, kind, tensor, 0)
    number = np.int32 if is_integer else np.float32
    values = writer.cast(tensor, number)
    if kind == ODD:
        doubled = writer.node("Mul", values, writer.number(2, number))
        values = writer.node("Add", doubled, writer.number(1, number))
    if factor != 1:
        values = writer.node("Mul", values, writer.number(factor, number))
    if is_integer:
        return Levels(writer.cast(values, np.int8), factor, kind, tensor, 0)
    return Levels(values, 1, kind, tensor, 0, is_float=True)


def _tensor(writer: OnnxWriter, codes: Codes, bits: int) -> str:
    if bits == 8:
        return writer.tensor(codes)
    digits = codes.ravel().astype(np.int64) & ((1 << bits) - 1)  # two's complement
    return writer.narrow(f"INT{bits}", codes.shape, joined_bits(digits, bits).tobytes())

"""Weights and biases of layers in an ONNX graph: as floats, or as integers with their scales.

Either way they are made of the levels and the scales that the file holds. Where the inputs of a
layer are integers, its levels stay integers too (`DequantizeLinear` behind them), and ONNX Runtime
computes with them: QLinearConv. That adds biases in units of input step x weight scale, which is
coarse where levels are few: so these are multiplied by a power of two, and the scales divided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqtune.deploy.graph import Floats, Grid, Layer, Linear, Packed
from sqtune.deploy.onnx.grids import shifted
from sqtune.deploy.onnx.weights import Levels
from sqtune.deploy.onnx.writer import Array, OnnxWriter

# x86 without VNNI adds products of uint8 and int8 in pairs, and clips a sum that 16 bits do not
# hold. Products of uint8 and uint8 it adds exactly.
LARGEST_PAIR = 2**15 - 1
LARGEST_BIAS = 2**30
MIDDLE = 128  # zero point of uint8 weights
ZERO = 1024  # levels divided by it become 0


@dataclass(frozen=True, slots=True)
class Parameters:
    """A layer's weights and biases in the graph.

    Attributes:
        weight: Name of the weights.
        bias: Name of the biases, None for zeros.
        levels: Where the levels are, None for weights that stay float.
        scale: Name of the stored scales of their rows.
    """

    weight: str
    bias: str | None
    levels: Levels | None = None
    scale: str = ""


def plain(writer: OnnxWriter, layer: Layer, values: Floats) -> Parameters:
    """Write float weights as they are."""
    return Parameters(writer.tensor(values), _float_bias(writer, layer))


def unpacked(writer: OnnxWriter, layer: Layer, weight: Packed, levels: Levels) -> Parameters:
    """Write float weights as levels times scales."""
    scale = writer.tensor(_by_row(weight.level_scale_O, weight.codes.ndim))
    values = levels.name if levels.is_float else writer.cast(levels.name, np.float32)
    if levels.factor != 1:
        values = writer.node("Mul", values, writer.floats(1 / levels.factor))
    weights = writer.node("Mul", values, scale)
    return Parameters(weights, _float_bias(writer, layer), levels, scale)


def integers(
    writer: OnnxWriter,
    layer: Layer,
    weight: Packed,
    levels: Levels,
    grid: Grid,
    *,
    bias_too: bool,
) -> Parameters:
    """Write weights as integers, and biases if they are wanted, for inputs on a grid."""
    stored, inputs = writer.tensor(weight.level_scale_O), shifted(grid)
    scale_O = weight.level_scale_O / np.float32(levels.factor)
    name, scale = levels.name, stored
    fit = _fit(scale_O, layer.bias_O, inputs.step, levels.factor)
    if bias_too and (fit.divisor_O != 1).any():
        divisor = writer.constant(_by_row(fit.divisor_O, weight.codes.ndim))
        name = writer.cast(writer.node("Div", writer.cast(name, np.int32), divisor), np.int8)
        scale = writer.node("Mul", scale, writer.constant(fit.factor_O / np.float32(levels.factor)))
        scale = writer.node("Add", scale, writer.constant(fit.extra_O))
        scale_O = scale_O * fit.factor_O + fit.extra_O
    elif levels.factor != 1:
        scale = writer.node("Mul", scale, writer.floats(1 / levels.factor))
    kind: type[np.integer[Any]] = np.int8
    largest = int(np.abs(weight.levels).max(initial=0)) * levels.factor
    zero = 0
    if 2 * largest * inputs.largest > LARGEST_PAIR:
        kind, zero = np.uint8, MIDDLE
        numbers = writer.node("Add", writer.cast(name, np.int32), writer.number(zero, np.int32))
        name = writer.cast(numbers, kind)
    more = [writer.full(zero, kind, len(scale_O))] if zero or isinstance(layer, Linear) else []
    values = writer.node("DequantizeLinear", name, scale, *more, axis=0)
    if bias_too:
        bias = _integer_bias(writer, layer, scale, scale_O * inputs.step, inputs.step)
    else:
        bias = _float_bias(writer, layer)
    return Parameters(values, bias, levels, stored)


def _float_bias(writer: OnnxWriter, layer: Layer) -> str | None:
    """Write a layer's biases, unless all are 0."""
    return writer.tensor(layer.bias_O) if layer.bias_O.any() else None


def _integer_bias(
    writer: OnnxWriter, layer: Layer, scale: str, unit_O: Floats, step: np.float32
) -> str | None:
    if not layer.bias_O.any():
        return None
    exact_O = layer.bias_O / np.where(unit_O == 0, 1, unit_O).astype(np.float64)
    unit = writer.node("Mul", scale, writer.constant(np.array(step)))
    rounded = writer.tensor(np.rint(exact_O).astype(np.int32))
    return writer.node("DequantizeLinear", rounded, unit, axis=0)


@dataclass(frozen=True, slots=True)
class _Fit:
    """What makes all biases of a layer fit into 32 bits.

    Attributes:
        divisor_O: What a row's levels are divided by (without a remainder, or to 0).
        factor_O: What its scale is multiplied by.
        extra_O: What is added to that.
    """

    divisor_O: npt.NDArray[np.int32]
    factor_O: Floats
    extra_O: Floats


def _fit(scale_O: Floats, bias_O: Floats, step: np.float32, factor: int) -> _Fit:
    """Return what makes biases fit, for scales of levels that are multiplied by `factor`.

    A row that batch norm has almost switched off has a tiny scale beside its bias. It gets coarser
    levels; and if even the coarsest do not help, none: its weights, below 2**-30 of its bias each,
    count for nothing.
    """
    needed_O = np.abs(bias_O.astype(np.float64)) / step
    given_O = LARGEST_BIAS * np.abs(scale_O.astype(np.float64))
    divisor_O = np.ones(len(scale_O), np.int32)
    for _ in range(factor.bit_length() - 1):
        divisor_O = np.where(needed_O > given_O * divisor_O, 2 * divisor_O, divisor_O)
    is_off_O = needed_O > given_O * divisor_O
    return _Fit(
        np.where(is_off_O, ZERO, divisor_O).astype(np.int32),
        np.where(is_off_O, 0, divisor_O).astype(np.float32),
        np.where(is_off_O, needed_O / (LARGEST_BIAS // 2), 0).astype(np.float32),
    )


def _by_row(values_O: Array, num_dims: int) -> Array:
    return values_O.reshape(-1, *[1] * (num_dims - 1))

"""Predicted size: the bytes of the exported file, known before training.

Form `onnx`: packed codes, one float32 scale a row, one 4-byte bias a channel (batch norm is folded
into scales and biases; int32 where a layer's inputs are integers), float weights where a layer
stays float, each look-up table that some layer needs once, and a bound on what the file format
adds: 350 bytes a layer, 450 where the codes are bit planes, 300 more where its inputs are quantized
(the two nodes, their scale and their zero point).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sqtune.config.trial import TrialConfig
from sqtune.networks import build
from sqtune.quant import (
    Float,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
    packed_bytes,
    quantizable_weights,
)
from sqtune.quant.rules import assign_quantizers

LAYER_OVERHEAD = 350
BIT_PLANES_LAYER_OVERHEAD = 450
ACTIVATIONS_LAYER_OVERHEAD = 300
TABLE_BYTES = {"1 bit": 256 * 8, "2 bits": 256 * 4, "4 bits": 256 * 2, "ternary": 243 * 5}  # int8


@dataclass(frozen=True, slots=True)
class PredictedSize:
    """What a network takes when it is deployed.

    Attributes:
        size_bytes: Bytes of the exported file.
        weight_bits: Average bits of its weights, 32 where they stay float.
    """

    size_bytes: int
    weight_bits: float


def predicted_size(
    config: TrialConfig,
    *,
    in_channels: int,
    num_classes: int,
    image_size: tuple[int, int] = (32, 32),
) -> PredictedSize:
    """Return the predicted size of a configuration's exported `onnx` form.

    Raises:
        QuantizationError: A rule gives no layer its quantizer.

    >>> predicted_size(TrialConfig(), in_channels=3, num_classes=10)
    PredictedSize(size_bytes=50922, weight_bits=1.0)
    """
    with torch.random.fork_rng(devices=[]):  # the "meta" device would import torch's compiler
        model = build(config.network, in_channels, num_classes, image_size)
    weights = {
        name.rpartition(".")[0]: weight for name, weight in quantizable_weights(model).items()
    }
    quantizers = assign_quantizers(list(weights), config.quantizer, config.rules)
    low_bit_inputs = config.activations is not None
    total_bytes = total_bits = total_weights = 0
    for name, weight in weights.items():
        num_rows, num_weights, quantizer = weight.shape[0], weight.numel(), quantizers[name]
        total_bytes += _layer_bytes(num_rows, num_weights, quantizer, low_bit_inputs=low_bit_inputs)
        total_bits += num_weights * quantizer.bits
        total_weights += num_weights
    tables = {_table(quantizer) for quantizer in quantizers.values()}
    total_bytes += sum(TABLE_BYTES[table] for table in tables if table is not None)
    return PredictedSize(total_bytes, total_bits / total_weights)


def _layer_bytes(
    num_rows: int, num_weights: int, quantizer: Quantizer, *, low_bit_inputs: bool
) -> int:
    weights_and_biases = packed_bytes(num_weights, quantizer) + 4 * num_rows
    if isinstance(quantizer, Float):  # its inputs stay float as well
        return weights_and_biases + LAYER_OVERHEAD
    scales = 4 * num_rows
    overhead = BIT_PLANES_LAYER_OVERHEAD if _has_bit_planes(quantizer) else LAYER_OVERHEAD
    inputs = ACTIVATIONS_LAYER_OVERHEAD if low_bit_inputs else 0
    return weights_and_biases + scales + overhead + inputs


def _has_bit_planes(quantizer: Quantizer) -> bool:
    return isinstance(quantizer, Uniform | LearnedUniform) and quantizer.bits in (3, 5, 6, 7)


def _table(quantizer: Quantizer) -> str | None:
    """Return which look-up table unpacks a quantizer's codes, if any does."""
    match quantizer:
        case Float() | Uniform(bits=8) | LearnedUniform(bits=8):
            return None
        case Uniform(bits=2 | 4 as bits) | LearnedUniform(bits=2 | 4 as bits):
            return f"{bits} bits"
        case Ternary() | LearnedTernary():
            return "ternary"
        case _:  # binary codes and bit planes
            return "1 bit"

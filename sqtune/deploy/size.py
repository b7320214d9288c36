"""Predicted size: the bytes of the exported file, known before training.

Form `onnx`: packed codes, one float32 scale a row, one float32 bias a channel (batch norm is folded
into scales and biases), float weights where the quantizer is float, and a bound on what the file
format adds: 350 bytes a layer, 450 where the codes are bit planes.
"""

from __future__ import annotations

import torch

from sqtune.networks import Network, build
from sqtune.quant import Float, Quantizer, packed_bytes, quantizable_weights
from sqtune.quant.spec import Uniform

LAYER_OVERHEAD = 350
BIT_PLANES_LAYER_OVERHEAD = 450
LOOKUP_TABLE_ENTRIES = {1: 256 * 8, 2: 256 * 4, 4: 256 * 2}  # int8, shared by all layers
TERNARY_TABLE_ENTRIES = 243 * 5


def predicted_size_bytes(
    network: Network,
    quantizer: Quantizer,
    *,
    in_channels: int,
    num_classes: int,
    image_size: tuple[int, int] = (32, 32),
) -> int:
    """Return the predicted size in bytes of a network's exported `onnx` form.

    >>> from sqtune.networks import ResNet
    >>> from sqtune.quant import Binary
    >>> predicted_size_bytes(ResNet("resnet20"), Binary(), in_channels=3, num_classes=10)
    51254
    """
    with torch.random.fork_rng(devices=[]):  # the "meta" device would import torch's compiler
        model = build(network, in_channels, num_classes, image_size)
    weights = quantizable_weights(model).values()
    planes = isinstance(quantizer, Uniform) and quantizer.bits in (3, 5, 6, 7)
    overhead = BIT_PLANES_LAYER_OVERHEAD if planes else LAYER_OVERHEAD
    total = _lookup_table_bytes(quantizer)
    for weight in weights:
        num_rows = weight.shape[0]
        scales = 0 if isinstance(quantizer, Float) else 4 * num_rows
        total += packed_bytes(weight.numel(), quantizer) + scales + 4 * num_rows + overhead
    return total


def _lookup_table_bytes(quantizer: Quantizer) -> int:
    match quantizer:
        case Float():
            return 0
        case Uniform(bits=8):
            return 0
        case Uniform(bits=2 | 4 as bits):
            return LOOKUP_TABLE_ENTRIES[bits]
        case _ if quantizer.name == "ternary":
            return TERNARY_TABLE_ENTRIES
        case _:
            return LOOKUP_TABLE_ENTRIES[1]

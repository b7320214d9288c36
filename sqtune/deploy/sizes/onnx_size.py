"""Bytes of the ONNX file that a network becomes (`deploy.onnx_model`), known before training.

Counted part by part, as the file format (protobuf) lays them down: weights, scales and biases
exactly, nodes and the frames around tensors with names of two letters and shapes that no other
layer shares. So the file is never larger, and up to some bytes a layer smaller. Beyond that:
a layer whose biases are all zero has none in the file; and where inputs are integers, a row that
batch norm has all but switched off (a scale below a billionth of its bias) makes its layer larger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqtune.deploy.sizes.memory import FLOAT_BITS
from sqtune.deploy.sizes.structure import Structure
from sqtune.quant import (
    Binary,
    Float,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Ternary,
    Uniform,
    packed_bytes,
)

WIDE = 8  # bits, of weights that bytes hold without room
SHELL = 212  # versions, image and logits, the nodes that normalise pixels of 3 channels
LAYER = 62  # the node, the frames around weights (or scales) and biases
SETTING = 22  # padding, stride, dilation or groups of a convolution
UNPACKING = 78  # the nodes that cut out a layer's codes, shape them and multiply by scales
SHAPE = 20  # of weights, which all layers of that shape share
INPUTS = 93  # the step of a layer's inputs, and the nodes that divide, round, clip and multiply
ENDS = 42  # of the grids of so many bits, with sign and without: three numbers, and 0
ZERO = 14  # which all share
TABLE = 360  # the nodes that make and use the table which unpacks a kind of codes
BYTES = 50  # likewise for codes of 8 bits, which need none
PLANES = 90  # beyond the table: the nodes that add up bit planes
NORM = 86  # scale and shift of a norm that stays


@dataclass(frozen=True, slots=True)
class Nodes:
    """Bytes of what one of torch's operations becomes.

    Attributes:
        each: For each call; where it gives several tensors, for each of them.
        once: For constants that all calls share.
    """

    each: int
    once: int = 0


NOTHING = Nodes(0)
NODES = {  # by torch's names, without the "_" of those that change their input
    "_adaptive_avg_pool2d": Nodes(110),
    "_unsafe_view": Nodes(48),
    "add": Nodes(20),
    "alias": NOTHING,
    "as_strided": NOTHING,
    "avg_pool2d": Nodes(90),
    "cat": Nodes(30),
    "clone": NOTHING,
    "constant_pad_nd": Nodes(60),
    "detach": NOTHING,
    "gelu": Nodes(100, 40),
    "hardsigmoid": Nodes(44),
    "hardswish": Nodes(64),
    "hardtanh": Nodes(28, 30),
    "max_pool2d_with_indices": Nodes(40),  # of two tensors
    "mean": Nodes(52),
    "mul": Nodes(20),
    "native_batch_norm": NOTHING,  # a layer takes it up, or `NORM` counts it
    "native_layer_norm": Nodes(110),  # of three tensors
    "permute": Nodes(42),
    "relu": Nodes(20),
    "sigmoid": Nodes(24),
    "silu": Nodes(44),
    "slice": Nodes(66),
    "split": Nodes(66),
    "tanh": Nodes(20),
    "transpose": Nodes(42),
    "view": Nodes(48),
}
OTHER = Nodes(100)
INPUT = 4  # beyond the first, an input of a node


def onnx_bytes(net: Structure, quantizers: Sequence[Quantizer], input_bits: Sequence[int]) -> int:
    """Return the bytes of a network's file.

    Args:
        net: The network.
        quantizers: Of each layer, in the order of `net.layers`.
        input_bits: Bits of each layer's inputs; 32 for float.
    """
    total = SHELL + 4 * net.other_numbers + _nodes_bytes(net)
    codes: Counter[str] = Counter()
    shapes = set()
    of_kind: dict[str, Quantizer] = {}
    grids = set()
    for layer, quantizer, bits in zip(net.layers, quantizers, input_bits, strict=True):
        total += LAYER + 4 * layer.num_rows
        if isinstance(quantizer, Float):
            total += 4 * layer.num_weights
            continue
        kind = _kind(quantizer)
        of_kind[kind] = quantizer
        codes[kind] += layer.num_weights
        shapes.add(layer.shape)
        total += UNPACKING + 4 * layer.num_rows
        if bits != FLOAT_BITS:
            grids.add(bits)
            total += INPUTS
    total += SHAPE * len(shapes) + ENDS * len(grids) + (ZERO if grids else 0)
    for kind, quantizer in of_kind.items():
        total += packed_bytes(codes[kind], quantizer) + _kind_bytes(quantizer)
    return total


@lru_cache(maxsize=4096)
def _nodes_bytes(net: Structure) -> int:
    """Return the bytes of everything but the layers, and of the layers' settings."""
    total = NORM * net.num_norms
    names = set()
    for call in net.calls:
        total += SETTING * call.settings
        is_nothing = call.name == "constant_pad_nd" and not call.settings
        if call.layer < 0 and not is_nothing:
            name = call.name.removesuffix("_")
            names.add(name)
            total += NODES.get(name, OTHER).each * call.num_outputs + INPUT * (call.num_inputs - 1)
    return total + sum(NODES[name].once for name in names & NODES.keys())


def _is_wide(quantizer: Quantizer) -> bool:
    return isinstance(quantizer, Uniform | LearnedUniform) and quantizer.bits == WIDE


def _kind_bytes(quantizer: Quantizer) -> int:
    if _is_wide(quantizer):
        return BYTES
    has_planes = _kind(quantizer) in ("3 bits", "5 bits", "6 bits", "7 bits")
    return TABLE + (PLANES if has_planes else 0)


def _kind(quantizer: Quantizer) -> str:
    """Return what tells apart the codes that stand in one tensor."""
    match quantizer:
        case Binary():
            return "binary"
        case Ternary() | LearnedTernary():
            return "ternary"
        case Uniform(bits=bits) | LearnedUniform(bits=bits):
            return f"{bits} bits"
    raise AssertionError(quantizer)

"""Convolutions and linear layers in C: a call, and the constants it takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from sqtune.deploy.c.plan import View, unsupported
from sqtune.deploy.c.runtime import TERNARY_DIGITS, Functions
from sqtune.deploy.c.weights import Constants, number
from sqtune.deploy.graph import Conv, Floats, Graph, Layer, Packed
from sqtune.quant import LearnedTernary, Ternary

LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LayerCall:
    """A layer in C.

    Attributes:
        text: The call.
        row_bytes: Of the buffer that its unpacked weights take.
    """

    text: str
    row_bytes: int


def layer_call(
    node: Layer, graph: Graph, view: View, finish: str, functions: Functions, constants: Constants
) -> LayerCall:
    """Return the call of a layer whose input is read at `view`.

    Raises:
        ExportError: It is larger than what the C form counts with.
    """
    weight = node.weight
    size = weight.codes.shape if isinstance(weight, Packed) else weight.shape
    packed = isinstance(weight, Packed)
    where = [f"AT({view.offset})", str(view.start)]
    if isinstance(node, Conv):
        shape = constants.convolution(node.name, _fields(node, graph))
        words = {"SUM": _sum(view, packed), "WEIGHT": "int8_t" if packed else "float"}
        kind = "levels" if packed else "floats"
        _channel(view, kind, functions, words)
        file, given = f"convolve_{kind}", [f"&{shape}"]
    else:
        places = prod(graph.shapes[node.inputs[0]][:-1])
        words = {"SUM": _sum(view, packed)}
        file = "linear_levels" if packed else "linear_floats"
        given = [str(size[1]), str(size[0]), str(places)]
    biases = constants.floats(node.name, "biases", node.bias_O)
    if isinstance(weight, Packed):
        _check_sums(node, weight, view)
        if isinstance(weight.quantizer, Ternary | LearnedTernary):
            constants.levels("ternary_digits", np.array(TERNARY_DIGITS, np.int8))
        codes = constants.codes(weight)
        scales = constants.floats(node.name, "scales", _scales(weight, view))
        given += [functions.unpack(weight), codes, scales, biases, *where, finish]
    else:
        weights = constants.floats(node.name, "weights", weight)
        step = "1.0f" if view.grid is None else number(view.grid.step)
        given += [weights, biases, *where, step, finish]
    name = functions.reading(file, view, **words)
    buffered = packed and isinstance(node, Conv)
    return LayerCall(f"{name}({', '.join(given)});", prod(size[1:]) if buffered else 0)


def _channel(view: View, kind: str, functions: Functions, words: dict[str, str]) -> None:
    """Take in what makes one output channel of a convolution."""
    name = functions.load(view)
    for part in ("window", "windows_3", "windows", "channel"):
        file = f"convolve_{part}"
        functions.use_as(f"{file}_{kind}_{name}", file, KIND=kind, INPUT=name, **words)


def _sum(view: View, packed: bool) -> str:
    """Return the type of sums: whole numbers where input and weights are whole."""
    return "int32_t" if packed and view.grid is not None else "float"


def _scales(weight: Packed, view: View) -> Floats:
    """Return what sums are multiplied by: what a step of the weights and of the input count."""
    if view.grid is None:
        return weight.level_scale_O
    scale_O = weight.level_scale_O.astype(np.float64) * view.grid.step
    return scale_O.astype(np.float32)


def _check_sums(node: Layer, weight: Packed, view: View) -> None:
    if view.grid is None:
        return
    levels = np.abs(weight.levels.astype(np.int64)).reshape(len(weight.codes), -1)
    largest = int(levels.sum(axis=1).max()) * max(view.grid.top, -view.grid.low)
    if largest > LARGEST_SUM:
        raise unsupported(node, f"sums of up to {largest} do not fit into 32 bits")


def _fields(node: Conv, graph: Graph) -> dict[str, int]:
    """Return the record of a convolution, in the order of c/types.c."""
    if len(node.stride) != 2:
        raise unsupported(node, f"a convolution of {len(node.stride)}-D images is not known to C")
    channels, height, width = graph.shapes[node.inputs[0]]
    out_channels, out_height, out_width = graph.shapes[node.output]
    weight = node.weight.codes if isinstance(node.weight, Packed) else node.weight
    wide = {
        "channels": channels,
        "height": height,
        "width": width,
        "out_channels": out_channels,
        "out_height": out_height,
        "out_width": out_width,
        "groups": node.groups,
    }
    narrow = {
        "kernel_height": weight.shape[2],
        "kernel_width": weight.shape[3],
        "stride_height": node.stride[0],
        "stride_width": node.stride[1],
        "top": node.padding[0][0],
        "left": node.padding[1][0],
        "dilation_height": node.dilation[0],
        "dilation_width": node.dilation[1],
    }
    for fields, most in ((wide, 2**16 - 1), (narrow, 2**8 - 1)):
        for field, value in fields.items():
            if value > most:
                raise unsupported(node, f"{field} is at most {most} in C, not {value}")
    return wide | narrow

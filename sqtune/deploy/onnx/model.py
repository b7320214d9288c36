"""A graph as an ONNX file: packed for stock runtimes, native for compilers, or unpacked.

Where a network was calibrated for whole numbers, activations are uint8 between QuantizeLinear and
DequantizeLinear, and the weights of the layers behind them integers too, so that ONNX Runtime
computes with integers where it can. What was trained on grids is rounded with float operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqtune.deploy.graph import IMAGE, Conv, Graph, Linear, Node, Packed, Quantize
from sqtune.deploy.onnx.grids import (
    from_integers,
    in_floats,
    integer_grids,
    shifted,
    to_integers,
)
from sqtune.deploy.onnx.layers import OnnxForm, write_parameters
from sqtune.deploy.onnx.native import versions
from sqtune.deploy.onnx.nodes import convolution, linear, write_move, write_node
from sqtune.deploy.onnx.parameters import Parameters
from sqtune.deploy.onnx.writer import OnnxWriter, ValueInfo
from sqtune.deploy.runtime import IMAGE_INPUT, LOGITS_OUTPUT

__all__ = ["OnnxFile", "OnnxForm", "Placement", "onnx_file"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a layer's codes lie in a file.

    Attributes:
        source: Name of the trained parameter.
        tensor: Name of the initializer that holds them.
        kind: How it is packed (`sqtune.deploy.onnx.weights` and `native` say what each means).
        first: Index of the layer's first code in it.
        count: Number of codes.
        shape: Of the weight; codes stand in C order.
        scale: Name of the initializer with the float32 scale of each row's levels.
    """

    source: str
    tensor: str
    kind: str
    first: int
    count: int
    shape: tuple[int, ...]
    scale: str


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file and what it takes to run it.

    Attributes:
        data: What is in it. Input "image": uint8, N x C x H x W; output "logits": float32.
        opset: Version of its operators.
        ir: Version of its format.
        oldest_runtime: The oldest ONNX Runtime that runs it.
        placements: Where the codes of each layer with packed weights are, in order.
    """

    data: bytes
    opset: int
    ir: int
    oldest_runtime: str
    placements: tuple[Placement, ...]


def onnx_file(graph: Graph, form: OnnxForm) -> OnnxFile:
    """Return a graph as an ONNX file.

    Args:
        graph: A lowered network.
        form: "onnx": packed codes, unpacked by the runtime as it loads them. "native": 4- and
            2-bit tensors, for compilers. "float": the same graph with weights as they are after
            unpacking, float32, or int8 where inputs are on a grid: what "onnx" is compared with.
    """
    opset, ir, oldest_runtime = _versions(graph, form)
    writer = OnnxWriter(opset)
    grids = integer_grids(graph)
    values, numbers = {IMAGE: _normalised(writer, graph)}, dict[int, str]()

    def value(number: int) -> str:
        if number not in values:
            values[number] = from_integers(writer, numbers[number], grids[number])
        return values[number]

    parameters = write_parameters(writer, graph, form, grids)
    for node in graph.nodes:
        shapes = graph.shapes[node.inputs[0]], graph.shapes[node.output]
        grid = grids.get(node.output)
        match node:
            case Quantize() if grid is not None:
                numbers[node.output] = to_integers(writer, value(node.inputs[0]), grid)
            case _ if grid is not None:
                x, zero = [numbers[given] for given in node.inputs], shifted(grid).zero
                numbers[node.output] = write_move(writer, node, x, zero, *shapes)
            case _:
                x = [value(given) for given in node.inputs]
                values[node.output] = _in_floats(writer, node, x, parameters, *shapes)
    image = ValueInfo(IMAGE_INPUT, np.uint8, graph.image_shape)
    logits = ValueInfo(LOGITS_OUTPUT, np.float32, graph.shapes[graph.output])
    data = writer.model(ir, image, logits, value(graph.output))
    placements = () if form == "float" else _placements(graph, parameters)
    return OnnxFile(data, opset, ir, oldest_runtime, placements)


def _in_floats(
    writer: OnnxWriter,
    node: Node,
    x: list[str],
    parameters: dict[int, Parameters],
    given: tuple[int, ...],
    result: tuple[int, ...],
) -> str:
    match node:
        case Conv():
            return convolution(writer, node, x[0], parameters[node.output])
        case Linear():
            return linear(writer, x[0], parameters[node.output], len(given))
        case Quantize(grid=grid):
            return in_floats(writer, x[0], grid)
    return write_node(writer, node, x, given, result)


def _versions(graph: Graph, form: OnnxForm) -> tuple[int, int, str]:
    """Return (opset, IR, oldest ONNX Runtime)."""
    if form == "native":
        needed = versions(
            layer.weight.quantizer for layer in graph.layers if isinstance(layer.weight, Packed)
        )
        if needed is not None:
            return needed
    return (19, 9, "1.16.3") if graph.in_integers else (13, 7, "1.16.3")


def _normalised(writer: OnnxWriter, graph: Graph) -> str:
    """Write the input's normalisation, as training did it."""
    one = (-1, *[1] * (len(graph.image_shape) - 1))
    pixels = writer.cast(IMAGE_INPUT, np.float32)
    centred = writer.node("Sub", pixels, writer.constant(graph.pixel_mean_C.reshape(one)))
    return writer.node("Mul", centred, writer.constant(graph.pixel_scale_C.reshape(one)))


def _placements(graph: Graph, parameters: dict[int, Parameters]) -> tuple[Placement, ...]:
    placements = []
    for layer in graph.layers:
        weight, written = layer.weight, parameters[layer.output]
        levels = written.levels
        if isinstance(weight, Packed) and levels is not None:
            about = (weight.source, levels.tensor, levels.kind, levels.first)
            codes = weight.codes
            placements.append(Placement(*about, codes.size, codes.shape, written.scale))
    return tuple(placements)

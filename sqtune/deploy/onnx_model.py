"""A graph as an ONNX file: packed for stock runtimes, native for compilers, or plain float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sqtune.deploy.graph import IMAGE, Conv, Graph, Layer, Packed
from sqtune.deploy.onnx_nodes import convolution, linear, write_node
from sqtune.deploy.onnx_weights import Stored, store
from sqtune.deploy.onnx_writer import OnnxWriter, ValueInfo
from sqtune.deploy.runtime import IMAGE_INPUT, LOGITS_OUTPUT

OnnxForm = Literal["onnx", "native", "float"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a layer's codes lie in a file.

    Attributes:
        source: Name of the trained parameter.
        tensor: Name of the initializer that holds them.
        kind: How it is packed (`sqtune.deploy.onnx_weights` says what each means).
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
            unpacking, which any form's results are compared with.
    """
    opset, ir, oldest = 13, 7, "1.16.3"
    writer = OnnxWriter(opset)
    names = {IMAGE: _normalised(writer, graph)}
    weights, placements = _weights(writer, graph, form)
    for node in graph.nodes:
        x = [names[number] for number in node.inputs]
        given, result = graph.shapes[node.inputs[0]], graph.shapes[node.output]
        if isinstance(node, Layer):
            bias = writer.constant(node.bias_O) if node.bias_O.any() else None
            weight = weights[node.output]
            if isinstance(node, Conv):
                names[node.output] = convolution(writer, node, x[0], weight, bias)
            else:
                names[node.output] = linear(writer, x[0], weight, bias, len(given))
        else:
            names[node.output] = write_node(writer, node, x, given, result)
    image = ValueInfo(IMAGE_INPUT, np.uint8, graph.image_shape)
    logits = ValueInfo(LOGITS_OUTPUT, np.float32, graph.shapes[graph.output])
    data = writer.model(ir, image, logits, names[graph.output])
    return OnnxFile(data, opset, ir, oldest, tuple(placements))


def _normalised(writer: OnnxWriter, graph: Graph) -> str:
    """Write the input's normalisation, as training did it."""
    one = (-1, *[1] * (len(graph.image_shape) - 1))
    pixels = writer.cast(IMAGE_INPUT, np.float32)
    centred = writer.node("Sub", pixels, writer.constant(graph.pixel_mean_C.reshape(one)))
    return writer.node("Mul", centred, writer.constant(graph.pixel_scale_C.reshape(one)))


def _weights(
    writer: OnnxWriter, graph: Graph, form: OnnxForm
) -> tuple[dict[int, str], list[Placement]]:
    """Write all weights; return the name of each layer's by its output, and where codes are."""
    weights: dict[int, str] = {}
    placements = []
    if form != "float":
        packed = [(layer, layer.weight) for layer in graph.layers]
        packed = [(layer, weight) for layer, weight in packed if isinstance(weight, Packed)]
        stored = store(writer, [weight for _, weight in packed])
        for (layer, weight), where in zip(packed, stored, strict=True):
            weights[layer.output], placement = _unpacked(writer, weight, where)
            placements.append(placement)
    for layer in graph.layers:
        if layer.output not in weights:
            given = layer.weight
            values = given.values() if isinstance(given, Packed) else given
            weights[layer.output] = writer.tensor(values)
    return weights, placements


def _unpacked(writer: OnnxWriter, weight: Packed, where: Stored) -> tuple[str, Placement]:
    shape = weight.codes.shape
    one = (-1, *[1] * (len(shape) - 1))
    levels = writer.node("Reshape", where.flat, writer.integers(shape))
    values = writer.cast(levels, np.float32)
    scale = writer.constant(weight.level_scale_O.reshape(one))
    placement = Placement(
        weight.source, where.tensor, where.kind, where.first, weight.codes.size, shape, scale
    )
    return writer.node("Mul", values, scale), placement

"""A graph's nodes as ONNX operators, one function a kind; opset 13 and later."""

from __future__ import annotations

import numpy as np

from sqtune.deploy.graph import (
    Affine,
    Combine,
    Concat,
    Conv,
    LayerNorm,
    Mean,
    Node,
    Pad,
    Pointwise,
    Pool,
    Reshape,
    Slice,
    Transpose,
)
from sqtune.deploy.onnx.functions import pointwise
from sqtune.deploy.onnx.parameters import Parameters
from sqtune.deploy.onnx.writer import OnnxWriter

Shape = tuple[int, ...]


def write_node(writer: OnnxWriter, node: Node, x: list[str], given: Shape, result: Shape) -> str:
    """Write a node that is no layer; return the name of its result.

    Args:
        writer: Takes the operators.
        node: What to write.
        x: Names of its inputs.
        given: Shape of the first one, without the batch.
        result: Shape of the result, likewise.
    """
    match node:
        case Pointwise():
            return pointwise(writer, node, x[0])
        case Combine(operation=operation):
            return writer.node("Add" if operation == "add" else "Mul", *x)
        case Affine():
            return _affine(writer, node, x[0], len(given))
        case Pool():
            return _pool(writer, node, x[0])
        case Mean(keep=keep):
            means = writer.node("GlobalAveragePool", x[0]) if len(given) > 1 else x[0]
            return means if keep or len(given) == 1 else writer.node("Flatten", means)
        case LayerNorm():
            return _layer_norm(writer, node, x[0])
        case Concat(axis=axis):
            return writer.node("Concat", *x, axis=axis + 1)
        case Slice(axis=axis, start=start, stop=stop):
            bounds = (writer.integers([number]) for number in (start, stop, axis + 1))
            return writer.node("Slice", x[0], *bounds)
        case Pad(padding=padding):
            return writer.node("Pad", x[0], _around(writer, padding))
        case Reshape():
            # never Flatten, past which ONNX Runtime moves no rounding
            return writer.node("Reshape", x[0], writer.integers([0, *result]))
        case Transpose(order=order):
            return writer.node("Transpose", x[0], perm=[0, *(axis + 1 for axis in order)])
    raise AssertionError(type(node).__name__)


def write_move(
    writer: OnnxWriter, node: Node, x: list[str], zero: int, given: Shape, result: Shape
) -> str:
    """Write a node that moves elements, or a ReLU, for uint8 numbers of which `zero` means 0."""
    match node:
        case Pad(padding=padding):
            return writer.node("Pad", x[0], _around(writer, padding), writer.number(zero, np.uint8))
        case Pointwise():
            return writer.node("Clip", x[0], writer.number(zero, np.uint8))
    return write_node(writer, node, x, given, result)


def convolution(writer: OnnxWriter, node: Conv, x: str, parameters: Parameters) -> str:
    """Write a convolution with weights and biases that are in the graph."""
    attributes: dict[str, object] = _pads(node.padding)
    if any(step != 1 for step in node.stride):
        attributes["strides"] = node.stride
    if any(step != 1 for step in node.dilation):
        attributes["dilations"] = node.dilation
    if node.groups != 1:
        attributes["group"] = node.groups
    return writer.node("Conv", x, *_given(parameters), **attributes)


def linear(writer: OnnxWriter, x: str, parameters: Parameters, num_dims: int) -> str:
    """Write a linear layer over the last of an input's `num_dims` dimensions."""
    if num_dims == 1:
        return writer.node("Gemm", x, *_given(parameters), transB=1)
    turned = writer.node("Transpose", parameters.weight, perm=[1, 0])
    product = writer.node("MatMul", x, turned)
    bias = parameters.bias
    return product if bias is None else writer.node("Add", product, bias)


def _given(parameters: Parameters) -> tuple[str, ...]:
    bias = parameters.bias
    return (parameters.weight,) if bias is None else (parameters.weight, bias)


def _around(writer: OnnxWriter, padding: tuple[tuple[int, int], ...]) -> str:
    around = [(0, 0), *padding]
    return writer.integers([before for before, _ in around] + [after for _, after in around])


def _pads(padding: tuple[tuple[int, int], ...]) -> dict[str, object]:
    pads = [before for before, _ in padding] + [after for _, after in padding]
    return {"pads": pads} if any(pads) else {}


def _pool(writer: OnnxWriter, node: Pool, x: str) -> str:
    attributes = {"kernel_shape": node.kernel, **_pads(node.padding)}
    if any(step != 1 for step in node.stride):
        attributes["strides"] = node.stride
    return writer.node("MaxPool" if node.kind == "max" else "AveragePool", x, **attributes)


def _affine(writer: OnnxWriter, node: Affine, x: str, num_dims: int) -> str:
    shape = (-1, *[1] * (num_dims - 1))
    scaled = writer.node("Mul", x, writer.constant(node.scale_C.reshape(shape)))
    if not node.shift_C.any():
        return scaled
    return writer.node("Add", scaled, writer.constant(node.shift_C.reshape(shape)))


def _layer_norm(writer: OnnxWriter, node: LayerNorm, x: str) -> str:
    axes = list(range(-node.scale.ndim, 0))
    centred = writer.node("Sub", x, _mean(writer, x, axes))
    squares = writer.node("Mul", centred, centred)
    variance = writer.node("Add", _mean(writer, squares, axes), writer.floats(node.epsilon))
    normal = writer.node("Div", centred, writer.node("Sqrt", variance))
    scaled = writer.node("Mul", normal, writer.constant(node.scale))
    return writer.node("Add", scaled, writer.constant(node.shift))


def _mean(writer: OnnxWriter, x: str, axes: list[int]) -> str:
    if writer.opset < 18:  # axes have been an input from then on
        return writer.node("ReduceMean", x, axes=axes)
    return writer.node("ReduceMean", x, writer.constant(np.array(axes, np.int64)))

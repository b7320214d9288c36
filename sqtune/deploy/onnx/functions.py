"""Functions of each element as ONNX operators; those that opset 13 lacks are put together."""

from __future__ import annotations

from math import sqrt

from sqtune.deploy.graph import Pointwise
from sqtune.deploy.onnx.writer import OnnxWriter


def pointwise(writer: OnnxWriter, node: Pointwise, x: str) -> str:
    """Write a function of each element."""
    match node.function:
        case "relu":
            return writer.node("Relu", x)
        case "clip":
            return writer.node("Clip", x, writer.floats(node.low), writer.floats(node.top))
        case "sigmoid":
            return writer.node("Sigmoid", x)
        case "hardsigmoid":
            return writer.node("HardSigmoid", x, alpha=1 / 6)
        case "hardswish":
            return writer.node("Mul", x, writer.node("HardSigmoid", x, alpha=1 / 6))
        case "silu":
            return writer.node("Mul", x, writer.node("Sigmoid", x))
        case "gelu":
            error = writer.node("Erf", writer.node("Div", x, writer.floats(sqrt(2))))
            both = writer.node("Mul", x, writer.node("Add", error, writer.floats(1)))
            return writer.node("Mul", both, writer.floats(0.5))
        case "tanh":
            return writer.node("Tanh", x)

"""All weights and biases of an ONNX file, in one of its forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sqtune.deploy.graph import Graph, Grid, Packed
from sqtune.deploy.onnx.grids import may_be_fused
from sqtune.deploy.onnx.native import store_native
from sqtune.deploy.onnx.parameters import Parameters, integers, plain, unpacked
from sqtune.deploy.onnx.weights import FACTORS, Levels, kind_of, store, store_unpacked
from sqtune.deploy.onnx.writer import OnnxWriter

OnnxForm = Literal["onnx", "native", "float"]


def write_parameters(
    writer: OnnxWriter, graph: Graph, form: OnnxForm, grids: Mapping[int, Grid]
) -> dict[int, Parameters]:
    """Write the weights and biases of all layers; return them by the layers' outputs, in order.

    Args:
        writer: Takes them.
        graph: The network.
        form: How weights are written.
        grids: Of the values that are integers (`sqtune.deploy.onnx.grids`).
    """
    is_integer = {layer.output: layer.inputs[0] in grids for layer in graph.layers}
    packed = {
        layer.output: layer.weight
        for layer in graph.layers
        if isinstance(layer.weight, Packed) and (form != "float" or is_integer[layer.output])
    }
    stored = _levels(writer, list(packed.values()), [is_integer[key] for key in packed], form)
    levels = dict(zip(packed, stored, strict=True))
    parameters = {}
    for layer in graph.layers:
        number, weight, output = layer.inputs[0], layer.weight, layer.output
        if isinstance(weight, Packed) and output in levels:
            if number in grids:
                about = (layer, weight, levels[output], grids[number])
                bias_too = may_be_fused(graph, grids, layer)
                made = integers(writer, *about, bias_too=bias_too)
            else:
                made = unpacked(writer, layer, weight, levels[output])
        else:
            made = plain(writer, layer, weight.values() if isinstance(weight, Packed) else weight)
        parameters[output] = made
    return parameters


def _levels(
    writer: OnnxWriter, weights: Sequence[Packed], is_integer: Sequence[bool], form: OnnxForm
) -> list[Levels]:
    if form == "native":
        return store_native(writer, weights, is_integer)
    kinds = [kind_of(weight.quantizer) for weight in weights]
    factors = dict.fromkeys(kinds, 1)
    for kind, computes in zip(kinds, is_integer, strict=True):
        if computes:
            factors[kind] = FACTORS[kind]
    return (store if form == "onnx" else store_unpacked)(writer, weights, factors)

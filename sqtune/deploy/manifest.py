"""manifest.json: where an exported network comes from, what it holds and what was proven of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

import sqtune
from sqtune.deploy.graph import Conv, Graph, Layer, Linear, Packed
from sqtune.quant import packed_bytes

FORMAT = 1
Form = Literal["onnx", "native", "torch", "c"]
ActivationForm = Literal["float", "trained", "int8", "int4", "int2"]


class Source(TypedDict):
    """Where a network comes from.

    Attributes:
        study: The study's name; None for a folder of `sqtune train --out`.
        trial: Its number there.
        run_id: Its MLflow run.
        network: The folder that was exported.
    """

    study: str | None
    trial: int | None
    run_id: str | None
    network: str


def manifest(
    graph: Graph,
    *,
    form: Form,
    activations: ActivationForm,
    source: Source,
    provenance: Mapping[str, str],
    config: Mapping[str, Any],
    code: Mapping[str, str] | None,
    placements: Sequence[Mapping[str, Any]],
    runtime: Mapping[str, Any] | None,
    **results: Any,
) -> dict[str, Any]:
    """Return the manifest as plain data.

    Args:
        graph: What was exported.
        form: Of the file.
        activations: How the inputs of layers are computed.
        source: Where the network comes from.
        provenance: Versions, commit and machine.
        config: The trial's configuration.
        code: Which code of others builds the network; a file for torch needs it.
        placements: Where the codes of each packed layer lie in the file, in order; empty for a
            file that is no ONNX.
        runtime: What a runtime has to know.
        results: errors, verification, size and sha256.
    """
    return {
        "format": FORMAT,
        "sqtune": sqtune.__version__,
        "form": form,
        "activations": activations,
        "rounded_activations": graph.num_rounded,
        "source": dict(source),
        "provenance": dict(provenance),
        "config": dict(config),
        "code": None if code is None else dict(code),
        "classes": list(graph.classes),
        "input": {
            "name": "image",
            "dtype": "uint8",
            "layout": "NCHW",
            "shape": list(graph.image_shape),
            "mean": list(graph.mean),
            "std": list(graph.std),
            "normalisation": "inside the file: (pixel / 255 - mean) / std per channel",
        },
        "output": {"name": "logits", "dtype": "float32", "shape": [len(graph.classes)]},
        "runtime": None if runtime is None else dict(runtime),
        "layers": layer_table(graph, placements),
        **results,
    }


def layer_table(graph: Graph, placements: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what each layer holds, in order; see `manifest`."""
    where = iter(placements)
    rows = []
    for layer in graph.layers:
        weight = layer.weight
        row: dict[str, Any] = {
            "name": layer.name,
            "kind": _kind(layer),
            "shape": list(_values(layer).shape),
            "weights": int(_values(layer).size),
            "bias_bytes": layer.bias_O.nbytes,
            "input": _input(graph, layer),
        }
        if isinstance(weight, Packed):
            place = _placement(next(where)) if placements else None
            row |= {
                "source": weight.source,
                "quantizer": weight.quantizer.name,
                "bits": weight.quantizer.bits,
                "packed_bytes": _packed_bytes(weight, place),
                "scale_bytes": weight.scale_O.nbytes,
                "levels_sha256": _sha256(weight.levels),
                "scales_sha256": _sha256(weight.level_scale_O),
                "placement": place,
            }
        else:
            row |= {
                "source": f"{layer.name}.weight",
                "quantizer": "float",
                "bits": 32,
                "packed_bytes": weight.nbytes,
                "scale_bytes": 0,
                "levels_sha256": None,
                "scales_sha256": None,
                "placement": None,
            }
        rows.append(row)
    return rows


def _values(layer: Layer) -> Any:
    return layer.weight.codes if isinstance(layer.weight, Packed) else layer.weight


def _kind(layer: Layer) -> str:
    match layer:
        case Linear():
            return "linear"
        case Conv(groups=1):
            return "convolution"
        case Conv(groups=groups) if groups == len(layer.bias_O):
            return "depthwise convolution"
        case _:
            return "grouped convolution"


def _input(graph: Graph, layer: Layer) -> dict[str, Any] | None:
    """Return the grid of a layer's input; None where it is float."""
    grid = graph.grid_of(layer.inputs[0])
    if grid is None:
        return None
    return {"bits": grid.bits, "low": grid.low, "top": grid.top, "step": grid.step}


def _placement(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in ("tensor", "kind", "first", "count", "scale")}


def _packed_bytes(weight: Packed, place: Mapping[str, Any] | None) -> int:
    """Return the bytes of a layer's codes; integer tensors of native files have whole bits each."""
    kind = "" if place is None else place["kind"]
    if kind.startswith("int"):
        bits = int(kind.removeprefix("int").removesuffix(" odd"))
        return -(-weight.codes.size * bits // 8)
    return packed_bytes(weight.codes.size, weight.quantizer)


def _sha256(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def payload_bytes(layers: Sequence[Mapping[str, Any]]) -> int:
    """Return the bytes of all packed codes."""
    return sum(row["packed_bytes"] for row in layers if row["quantizer"] != "float")

"""What must hold for every ONNX file, checked with the real ONNX Runtime and onnx's evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from sqtune.deploy.graph import Affine, Graph, LayerNorm, Packed, Quantize
from sqtune.deploy.onnx.compare import differences
from sqtune.deploy.onnx.model import OnnxFile, OnnxForm, onnx_file
from sqtune.deploy.onnx.weights import kind_of
from sqtune.deploy.run import run
from sqtune.deploy.runtime import IMAGE_INPUT, open_session, runner
from sqtune.quant import packed_bytes


def logits(data: bytes, images: np.ndarray, *, optimise: bool = True) -> np.ndarray:
    return runner(open_session(data, optimise=optimise))(images)


def expected(graph: Graph, images: np.ndarray) -> np.ndarray:
    return run(graph, torch.from_numpy(images)).numpy()


def as_its_twin(graph: Graph, images: np.ndarray, form: OnnxForm = "onnx") -> OnnxFile:
    """Check a file against its unpacked twin: the same bits come out, the same graph runs."""
    file, twin = onnx_file(graph, form), onnx_file(graph, "float")
    onnx.checker.check_model(onnx.load_from_string(file.data), full_check=True)
    assert np.array_equal(logits(file.data, images), logits(twin.data, images))
    assert differences(file.data, twin.data) == []
    return file


def close(values: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    """Check logits relative to how much they vary."""
    assert np.isfinite(wanted).all()
    assert wanted.std() > 0
    assert np.abs(values - wanted).max() <= tolerance * np.abs(wanted).max()


def evaluated(data: bytes, images: np.ndarray) -> np.ndarray:
    """Return the logits by onnx's own evaluator."""
    return ReferenceEvaluator(onnx.load_from_string(data)).run(None, {IMAGE_INPUT: images})[0]


def bound(graph: Graph) -> int:
    """Return how large a graph's file may be: payload, float rest, and so much a layer."""
    total = 0
    for layer in graph.layers:
        weight = layer.weight
        total += layer.bias_O.nbytes
        if isinstance(weight, Packed):
            total += packed_bytes(weight.codes.size, weight.quantizer) + weight.scale_O.nbytes
            total += 450 if kind_of(weight.quantizer).startswith("planes") else 350
        else:
            total += weight.nbytes + 350
    for node in graph.nodes:
        match node:
            case Quantize():
                total += 300
            case Affine():
                total += node.scale_C.nbytes + node.shift_C.nbytes
            case LayerNorm():
                total += node.scale.nbytes + node.shift.nbytes
    return total


def digits_of(stored: np.ndarray, base: int, per_byte: int) -> np.ndarray:
    return (stored.astype(int)[..., None] // base ** np.arange(per_byte) % base).reshape(
        *stored.shape[:-1], -1
    )


def decoded(file: OnnxFile) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (levels, scales) of each layer, read from a file by its placements alone."""
    model = onnx.load_from_string(file.data)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    result = {}
    for place in file.placements:
        stored = np.frombuffer(tensors[place.tensor].raw_data, np.uint8)
        match place.kind:
            case "binary":
                levels = 2 * digits_of(stored, 2, 8) - 1
            case "ternary":
                levels = digits_of(stored, 3, 5) - 1
            case "2 bits":
                levels = 2 * digits_of(stored, 4, 4) - 3
            case "4 bits":
                levels = digits_of(stored, 16, 2) - 8
            case "8 bits" | "int8":
                levels = stored.view(np.int8)
            case "int4":
                levels = (digits_of(stored, 16, 2) + 8) % 16 - 8
            case "int2":
                levels = (digits_of(stored, 4, 4) + 2) % 4 - 2
            case "int2 odd":
                levels = 2 * ((digits_of(stored, 4, 4) + 2) % 4 - 2) + 1
            case _:
                bits = int(place.kind.removeprefix("planes "))
                planes = digits_of(stored.reshape(bits, -1), 2, 8)
                levels = (planes << np.arange(bits)[:, None]).sum(axis=0) - 2 ** (bits - 1)
        levels = levels[place.first : place.first + place.count].reshape(place.shape)
        scales = np.frombuffer(tensors[place.scale].raw_data, "<f4")
        result[place.source] = levels, scales
    return result

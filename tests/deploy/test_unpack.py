"""Levels come out of bytes as they were packed, wherever a layer begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_networks import small_graph

from sqtune.deploy.checks.unpack import DATA_TYPES, levels, scales
from sqtune.deploy.checks.wire import FLOAT, INT8, UINT8, Tensor, initializers
from sqtune.deploy.graph import Packed
from sqtune.deploy.onnx.model import onnx_file
from sqtune.errors import ExportError
from sqtune.quant import Binary, Float, LayerRule, LearnedTernary, LearnedUniform, Ternary, Uniform
from sqtune.quant.packing import pack

PACKED = {"binary": Binary(), "ternary": Ternary(), "2 bits": Uniform(bits=2)}
PACKED |= {"4 bits": Uniform(bits=4)}
PACKED |= {f"planes {bits}": Uniform(bits=bits) for bits in (3, 5, 6, 7)}
RANGES = {"binary": (0, 1), "ternary": (-1, 1)}
NATIVE = {"8 bits": 8, "int8": 8, "int4": 4, "int2": 2}


def packed(kind: str, codes: torch.Tensor) -> Tensor:
    raw = pack(codes, PACKED[kind]).numpy().tobytes()
    rows = int(kind.removeprefix("planes ")) if kind.startswith("planes") else 0
    return Tensor("w", UINT8, (rows, len(raw) // rows) if rows else (len(raw),), raw)


def some_codes(kind: str, count: int, seed: int) -> torch.Tensor:
    bits = PACKED[kind].bits
    low, top = RANGES.get(kind, (-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(low, top + 1, (count,), generator=generator).to(torch.int8)
    return 2 * codes - 1 if kind == "binary" else codes


@given(st.sampled_from(list(PACKED)), st.integers(0, 200), st.integers(0, 9), st.data())
@settings(max_examples=200, deadline=None)
def test_any_part_of_what_was_packed(kind, count, seed, data):
    codes = some_codes(kind, count, seed)
    first = data.draw(st.integers(0, count))
    part = data.draw(st.integers(0, count - first))
    found = levels(packed(kind, codes), kind, first, part)
    whole = 2 * codes + 1 if kind == "2 bits" else codes  # half-integers are doubled
    assert found.dtype == np.int8
    assert np.array_equal(found, whole.numpy()[first : first + part])


@pytest.mark.parametrize("kind", [*NATIVE, "int2 odd"])
def test_onnx_types_of_few_bits(kind):
    bits = NATIVE.get(kind, 2)
    top = 1 << (bits - 1)
    values = np.random.default_rng(0).integers(-top, top, (3, 5))
    name = {8: "INT8", 4: "INT4", 2: "INT2"}[bits]
    made = helper.make_tensor("w", TensorProto.DataType.Value(name), (3, 5), values.ravel())
    (tensor,) = initializers(model(made)).values()
    found = levels(tensor, kind, 4, 9)
    wanted = 2 * values + 1 if kind == "int2 odd" else values
    assert np.array_equal(found, wanted.ravel()[4:13])


def model(*tensors: TensorProto) -> bytes:
    graph = helper.make_graph([], "g", [], [], initializer=list(tensors))
    return helper.make_model(graph).SerializeToString()


QUANTIZERS = [Binary(), Ternary(), LearnedTernary(), *(Uniform(bits=b) for b in range(2, 9))]
QUANTIZERS += [LearnedUniform(bits=3)]


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_exported_files_hold_the_trained_codes(quantizer, form):
    rules = (LayerRule("group1", Binary()), LayerRule("group2", Ternary()))
    graph, _ = small_graph(quantizer, rules=(*rules, LayerRule("head", Float())))
    file = onnx_file(graph, form)
    tensors = initializers(file.data)
    weights = [layer.weight for layer in graph.layers if isinstance(layer.weight, Packed)]
    assert len(weights) == len(file.placements) == 9
    for weight, where in zip(weights, file.placements, strict=True):
        found = levels(tensors[where.tensor], where.kind, where.first, where.count)
        assert np.array_equal(found.reshape(where.shape), weight.levels)
        scale_O = scales(tensors[where.scale], len(weight.codes))
        assert scale_O.tobytes() == weight.level_scale_O.tobytes()


@pytest.mark.parametrize("kind", list(DATA_TYPES))
@pytest.mark.parametrize(("first", "count"), [(0, 241), (1, 240), (-1, 3), (10**30, 1), (5, -1)])
def test_codes_that_the_tensor_does_not_have_are_refused(kind, first, count):
    rows = int(kind.removeprefix("planes ")) if kind.startswith("planes") else 1
    per_byte = {"8 bits": 1, "int8": 1, "ternary": 5, "2 bits": 4, "4 bits": 2}.get(kind, 8)
    per_byte = {"int4": 2, "int2": 4, "int2 odd": 4}.get(kind, per_byte)
    size = 240 // per_byte
    dims = (240,) if DATA_TYPES[kind] != UINT8 else (rows, size) if rows > 1 else (size,)
    tensor = Tensor("w", DATA_TYPES[kind], dims, bytes(rows * size))
    assert len(levels(tensor, kind, 0, 240)) == 240
    with pytest.raises(ExportError, match="holds 240 codes"):
        levels(tensor, kind, first, count)


def test_what_is_not_of_its_kind_is_refused():
    with pytest.raises(ExportError, match="'nibbles' is no kind of packed weights"):
        levels(Tensor("w", UINT8, (2,), b"ab"), "nibbles", 0, 1)
    with pytest.raises(ExportError, match='has data type 3, but codes of kind "binary" have 2'):
        levels(Tensor("w", INT8, (2,), b"ab"), "binary", 0, 1)
    with pytest.raises(ExportError, match="bytes above 242"):
        levels(Tensor("w", UINT8, (2,), b"a\xf3"), "ternary", 0, 6)
    with pytest.raises(ExportError, match=r"shape \[6\], not one row for each of 3 bit planes"):
        levels(Tensor("w", UINT8, (6,), bytes(6)), "planes 3", 0, 6)
    for wrong in (Tensor("s", FLOAT, (2,), bytes(8)), Tensor("s", UINT8, (3,), bytes(3))):
        with pytest.raises(ExportError, match="not the 3 float32 scales"):
            scales(wrong, 3)

"""Initializers are read as the onnx package reads them; whatever else a file holds is refused."""

from __future__ import annotations

import contextlib
import random
import time
import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from small_networks import small_graph

from sqtune.deploy.checks.protobuf import fields
from sqtune.deploy.checks.wire import BITS, initializers
from sqtune.deploy.onnx.model import onnx_file
from sqtune.errors import ExportError
from sqtune.quant import Binary, Uniform


def model(*tensors, nodes=(), **more) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [], [], initializer=list(tensors), **more)
    return helper.make_model(graph).SerializeToString()


def varint(whole: int) -> bytes:
    found = bytearray()
    while whole > 0x7F:
        found.append(whole & 0x7F | 0x80)
        whole >>= 7
    return bytes([*found, whole])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def file_with(tensor: bytes) -> bytes:
    return field(7, field(5, tensor))


def refused_or_read(data: bytes) -> bool:
    try:
        found = initializers(data)
    except ExportError:
        return True
    assert all(len(each.raw) <= len(data) * 8 for each in found.values())
    return False


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("quantizer", [Binary(), *(Uniform(bits=b) for b in (2, 3, 4, 8))], ids=str)
def test_exported_files_as_the_onnx_package_reads_them(quantizer, form):
    data = onnx_file(small_graph(quantizer)[0], form).data
    wanted = {each.name: each for each in onnx.load_from_string(data).graph.initializer}
    found = initializers(data)
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        assert tensor.dims == tuple(wanted[name].dims)
        assert tensor.data_type == wanted[name].data_type
        if BITS[tensor.data_type] >= 8:
            whole = numpy_helper.to_array(wanted[name])
            assert np.frombuffer(tensor.raw, whole.dtype).tolist() == whole.ravel().tolist()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT, [0.5, -1.25, 3e38]),
        (TensorProto.UINT8, [0, 255, 7]),
        (TensorProto.INT8, [-128, 127, -1]),
        (TensorProto.INT32, [-(2**31), 2**31 - 1, 5]),
        (TensorProto.INT64, [-(2**63), 2**63 - 1, 5]),
        (TensorProto.BOOL, [1, 0, 1]),
        (TensorProto.INT4, [-8, 7, 3]),
        (TensorProto.INT2, [-2, 1, -1]),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_elements_as_numbers_and_as_bytes(kind, values, raw):
    tensor = helper.make_tensor("t", kind, [3], values)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "t")
    found = initializers(model(tensor))["t"]
    assert found.data_type == kind
    assert found.count == 3
    if kind in (TensorProto.INT4, TensorProto.INT2):
        bits = BITS[kind]
        digits = [value & ((1 << bits) - 1) for value in values]
        joined = sum(digit << bits * index for index, digit in enumerate(digits))
        assert int.from_bytes(found.raw, "little") == joined
    else:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        assert np.frombuffer(found.raw, dtype).tolist() == np.array(values, dtype).tolist()


def subgraph():
    inner = helper.make_graph([], "inner", [], [])
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


def elsewhere():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def constant(tensor):
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.append(AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor))
    return node


FLOATS = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
NAMED = field(8, b"w") + field(2, 2)  # uint8
REFUSED = {
    "an external tensor": (model(elsewhere()), "field 13"),
    "only its mark": (file_with(NAMED + field(14, 1)), "in another file"),
    "one in a node": (model(nodes=[constant(elsewhere())]), "field 13"),
    "a graph in a node": (model(nodes=[subgraph()]), "has a graph or a sparse tensor"),
    "a name twice": (model(FLOATS, FLOATS), 'initializer "w" twice'),
    "no name": (file_with(field(2, 2) + field(1, 0)), "without a name"),
    "a name that is no text": (file_with(field(8, b"\xff")), "is no text"),
    "two graphs": (2 * model(FLOATS), "has 2 graphs"),
    "no graph": (b"", "has 0 graphs"),
    "functions": (field(25, b"") + model(FLOATS), "functions or training"),
    "sparse": (field(7, field(15, b"")), "sparse initializer"),
    "text elements": (file_with(NAMED + field(6, b"x")), "with field 6"),
    "a type that has no size": (file_with(field(8, b"w") + field(2, 8)), "of data type 8"),
    "a type twice": (file_with(NAMED + field(2, 2)), "field 2 twice"),
    "bytes and numbers": (file_with(NAMED + field(9, b"a") + field(5, 1)), "elements twice"),
    "numbers of another type": (file_with(NAMED + field(7, 1)), "with other elements"),
    "a number out of range": (file_with(NAMED + field(5, 256)), "outside of its data type"),
    "too few bytes": (file_with(NAMED + field(1, 9) + field(9, b"a")), "in 1 bytes, not the 9"),
    "too many bytes": (file_with(NAMED + field(1, 1) + field(9, b"ab")), "in 2 bytes, not the 1"),
    "a negative size": (file_with(NAMED + field(1, 2**64 - 1)), "a negative size"),
    "a size of 2**62": (file_with(NAMED + field(1, 2**62) + field(9, b"a")), "in 1 bytes"),
    "9 dimensions": (file_with(NAMED + 9 * field(1, 1)), "more than 8 dimensions"),
    "many dimensions": (file_with(NAMED + field(1, bytes(10**5))), "more than 8 dimensions"),
    "a length past the end": (varint(7 << 3 | 2) + varint(2**60), "ends inside of field 7"),
    "a group": (varint(7 << 3 | 3), "wire type 3"),
    "field 0": (field(0, b""), "field of number 0"),
    "an endless number": (b"\xff" * 30, "more than 10 bytes"),
    "65 bits": (varint(7 << 3) + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
    "a graph that is a number": (field(7, 5), "field 7 with wire type 0"),
    "a type that is bytes": (file_with(field(8, b"w") + field(2, b"\x02")), "field 2 with wire"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_sqtune_never_writes_is_refused(name):
    data, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        initializers(data)


def test_deep_nesting_neither_recurses_nor_takes_long():
    data = b""
    for _ in range(200):  # a graph in an attribute in a node in a graph ...
        data = field(1, field(5, field(6, data)))
    with pytest.raises(ExportError, match="has a graph"):
        initializers(field(7, data))


@pytest.mark.parametrize("element", [field(5, 1), field(5, b"\x01"), b"\x2d\0\0\0\0"])
def test_memory_stays_near_the_size_of_the_file(element):
    data = file_with(field(8, b"w") + field(2, 3) + element * 10_000)
    tracemalloc.start()
    began = time.process_time()
    refused_or_read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * len(data) + 100_000
    assert time.process_time() - began < 20


def test_a_file_cut_anywhere_is_refused_or_still_whole():
    graph, _ = small_graph(Binary())
    data = onnx_file(graph, "onnx").data
    whole = initializers(data)
    generator = random.Random(0)
    for end in {*range(120), *(generator.randrange(len(data)) for _ in range(200))}:
        if not refused_or_read(data[:end]):
            assert initializers(data[:end]) == whole  # only the version of operators was cut off


@given(st.binary(max_size=400))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_refused_or_read(data):
    refused_or_read(data)
    refused_or_read(field(7, data))
    refused_or_read(file_with(data))
    list_or_refuse(data)


def list_or_refuse(data):
    with contextlib.suppress(ExportError):
        assert sum(len(each.content) for each in fields(memoryview(data))) <= len(data)


FILE = onnx_file(small_graph(Uniform(bits=3))[0], "onnx").data


@given(st.lists(st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_changed_bytes_are_refused_or_read(changes):
    data = bytearray(FILE)
    for place, value in changes:
        data[place] = value
    refused_or_read(bytes(data))

"""Lists an ONNX file's initializers from its bytes, without the onnx package.

Reads the few messages of onnx.proto that hold tensors; makes nothing much larger than the file.
What two readers could understand in two ways (a field that may stand once, twice) and what sqtune
never writes (tensors in other files, graphs in nodes, functions) is refused.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from enum import IntEnum

from sqtune.deploy.checks.protobuf import FIXED32, Field, damaged, fields

FLOAT, UINT8, INT8, INT32, INT64, INT4, INT2 = 1, 2, 3, 6, 7, 22, 26  # TensorProto.DataType
UINT4, UINT2, BOOL, DOUBLE = 21, 25, 9, 11
BITS = {FLOAT: 32, UINT8: 8, INT8: 8, INT32: 32, INT64: 64, INT4: 4, INT2: 2}
BITS |= {UINT4: 4, UINT2: 2, BOOL: 8, DOUBLE: 64}
MAX_DIMS = 8


class _Model(IntEnum):
    GRAPH, TRAINING, FUNCTIONS = 7, 20, 25


class _Graph(IntEnum):
    NODE, INITIALIZER, SPARSE = 1, 5, 15


class _Node(IntEnum):
    ATTRIBUTE = 5


class _Attribute(IntEnum):
    TENSOR, GRAPH, TENSORS, GRAPHS, SPARSE, SPARSES = 5, 6, 10, 11, 22, 23


class _Proto(IntEnum):
    DIMS, DATA_TYPE, FLOATS, INT32S, INT64S, NAME, RAW = 1, 2, 4, 5, 7, 8, 9
    DOC, LOCATION, METADATA = 12, 14, 16


_NUMBERS = {FLOAT: _Proto.FLOATS, INT64: _Proto.INT64S, DOUBLE: _Proto.RAW}  # others: INT32S


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it lies in the file.

    Attributes:
        name: Of the initializer.
        data_type: A TensorProto.DataType that is in `BITS`.
        dims: Its shape.
        raw: Exactly its elements, little-endian; several to a byte below 8 bits, the first in the
            lowest ones.
    """

    name: str
    data_type: int
    dims: tuple[int, ...]
    raw: bytes | memoryview

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)


def initializers(model: bytes) -> dict[str, Tensor]:
    """Return the initializers of an ONNX file by name.

    Raises:
        ExportError: The file is damaged, or holds what sqtune never writes.
    """
    found: dict[str, Tensor] = {}
    for field in fields(_graph(model)):
        if field.number == _Graph.NODE:
            _refuse_nested(field.message())
        elif field.number == _Graph.INITIALIZER:
            tensor = _tensor(field.message())
            if not tensor.name or tensor.name in found:
                raise damaged(f'has initializer "{tensor.name}" twice or without a name')
            found[tensor.name] = tensor
        elif field.number == _Graph.SPARSE:
            raise damaged("has a sparse initializer, which sqtune never writes")
    return found


def _graph(model: bytes) -> memoryview:
    """Return a model's one graph."""
    graphs = []
    for field in fields(memoryview(model)):
        if field.number in (_Model.TRAINING, _Model.FUNCTIONS):
            raise damaged("has functions or training steps, which sqtune never writes")
        if field.number == _Model.GRAPH:
            graphs.append(field.message())
    if len(graphs) != 1:
        raise damaged(f"has {len(graphs)} graphs, not one")
    return graphs[0]


def _refuse_nested(node: memoryview) -> None:
    """Refuse graphs inside of a node, and constants of it that lie in other files."""
    for field in fields(node):
        if field.number != _Node.ATTRIBUTE:
            continue
        for inner in fields(field.message()):
            if inner.number in (_Attribute.TENSOR, _Attribute.TENSORS):
                _tensor(inner.message())
            elif inner.number in tuple(_Attribute):
                raise damaged("has a graph or a sparse tensor in a node: sqtune writes none")


def _tensor(message: memoryview) -> Tensor:
    once: dict[int, Field] = {}
    dims: list[int] = []
    elements: dict[int, array[int] | bytearray] = {}
    for field in fields(message):
        if field.number == _Proto.DIMS:
            dims += field.integers()
            if len(dims) > MAX_DIMS:
                raise damaged(f"has a tensor of more than {MAX_DIMS} dimensions")
        elif field.number in (_Proto.DATA_TYPE, _Proto.NAME, _Proto.RAW, _Proto.LOCATION):
            if field.number in once:
                raise damaged(f"has a tensor with field {field.number} twice")
            once[field.number] = field
        elif field.number == _Proto.FLOATS:
            content = field.content if field.kind == FIXED32 else field.message()
            elements.setdefault(field.number, bytearray()).extend(content)
        elif field.number in (_Proto.INT32S, _Proto.INT64S):
            elements.setdefault(field.number, array("q")).extend(field.integers())
        elif field.number not in (_Proto.DOC, _Proto.METADATA):
            raise damaged(f"has a tensor with field {field.number}, which sqtune never writes")
    name = once[_Proto.NAME].text() if _Proto.NAME in once else ""
    if _Proto.LOCATION in once and once[_Proto.LOCATION].unsigned() != 0:
        raise damaged(f'has tensor "{name}" in another file, where sqtune never puts one')
    data_type = once[_Proto.DATA_TYPE].unsigned() if _Proto.DATA_TYPE in once else 0
    if data_type not in BITS:
        raise damaged(f'has tensor "{name}" of data type {data_type}, which sqtune never writes')
    if any(size < 0 for size in dims):
        raise damaged(f'has tensor "{name}" with a negative size')
    if _Proto.RAW in once and elements:
        raise damaged(f'has tensor "{name}" with its elements twice')
    raw = once[_Proto.RAW].message() if _Proto.RAW in once else _raw(name, data_type, elements)
    tensor = Tensor(name, data_type, tuple(dims), raw)
    expected = -(-tensor.count * BITS[data_type] // 8)
    if len(raw) != expected:
        raise damaged(f'has tensor "{name}" in {len(raw)} bytes, not the {expected} of its shape')
    return tensor


def _raw(name: str, data_type: int, elements: dict[int, array[int] | bytearray]) -> bytes:
    """Return what raw_data would hold, from the numbers that may stand in its place."""
    wanted = _NUMBERS.get(data_type, _Proto.INT32S)
    found = elements.pop(wanted, b"")
    if elements:
        raise damaged(f'has tensor "{name}" of data type {data_type} with other elements')
    if not isinstance(found, array):
        return bytes(found)
    size = max(BITS[data_type], 8) // 8
    half = 1 << (8 * size - 1)
    raw, mask = bytearray(), 2 * half - 1
    for each in found:
        if size < 8 and not -half <= each < 2 * half:
            raise damaged(f'has tensor "{name}" with elements outside of its data type')
        raw += (each & mask).to_bytes(size, "little")
    return bytes(raw)

"""Writes an ONNX graph in few bytes: one-letter names, shared constants, no defaults spelt out."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]
INT32_LIKE = ("int32", "int16", "uint16", "int8", "uint8", "bool")
FIELDS = {"int64": "int64_data", **dict.fromkeys(INT32_LIKE, "int32_data")}
BATCH = "N"  # of any size


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """The image or the logits: name, type, and shape without the batch."""

    name: str
    kind: type[np.generic]
    shape: tuple[int, ...]


class OnnxWriter:
    """A graph as it grows: values are known by their names.

    Attributes:
        opset: Version of the operators that nodes are written in.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self._names = _short_names()
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[bytes, str] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its result; equal nodes are written once."""
        key = onnx.helper.make_node(operator, inputs, [], **attributes).SerializeToString()
        if key not in self._made:
            (result,) = self.nodes(operator, *inputs, num_results=1, **attributes)
            self._made[key] = result
        return self._made[key]

    def nodes(
        self, operator: str, *inputs: str, num_results: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several results and return their names."""
        results = tuple(next(self._names) for _ in range(num_results))
        self._nodes.append(onnx.helper.make_node(operator, inputs, results, **attributes))
        return results

    def constant(self, values: Array) -> str:
        """Return the name of a constant; equal ones are stored once."""
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = self._store(_shortest(values))
        return self._constants[key]

    def floats(self, *values: float) -> str:
        """Return the name of a float32 constant, a scalar for one value."""
        return self.constant(np.array(values if len(values) > 1 else values[0], np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """Return the name of an int64 vector: a shape, sizes or axes."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: int, kind: type[np.generic]) -> str:
        """Return the name of a scalar of a type."""
        return self.constant(np.array(value, kind))

    def full(self, value: int, kind: type[np.generic], size: int) -> str:
        """Return the name of a vector of equal integers, made by the graph."""
        one = _shortest(np.array([value], kind))
        return self.node("ConstantOfShape", self.integers([size]), value=one)

    def cast(self, x: str, kind: type[np.generic]) -> str:
        """Convert a value to another type."""
        return self.node("Cast", x, to=_type(np.dtype(kind)))

    def tensor(self, values: Array) -> str:
        """Store a tensor as plain bytes, under a name of its own."""
        return self._store(_plain(values))

    def narrow(self, kind: str, shape: tuple[int, ...], data: bytes) -> str:
        """Store a tensor of a type with fewer than 8 bits, such as "INT4"."""
        data_type = onnx.TensorProto.DataType.Value(kind)
        return self._store(onnx.TensorProto(dims=shape, data_type=data_type, raw_data=data))

    def model(self, ir: int, image: ValueInfo, logits: ValueInfo, result: str) -> bytes:
        """Return the file: what makes `result` of the image."""
        for node in self._nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == result:
                        names[index] = logits.name
        graph = onnx.GraphProto(
            name="g",
            node=self._nodes,
            initializer=self._tensors,
            input=[_described(image)],
            output=[_described(logits)],
        )
        opset = onnx.OperatorSetIdProto(version=self.opset)
        model = onnx.ModelProto(ir_version=ir, graph=graph, opset_import=[opset])
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _store(self, tensor: onnx.TensorProto) -> str:
        tensor.name = next(self._names)
        self._tensors.append(tensor)
        name: str = tensor.name
        return name


def _type(kind: np.dtype[Any]) -> int:
    number: int = onnx.helper.np_dtype_to_tensor_dtype(kind)
    return number


def _described(value: ValueInfo) -> onnx.ValueInfoProto:
    shape: list[str | int | None] = [BATCH, *value.shape]
    return onnx.helper.make_tensor_value_info(value.name, _type(np.dtype(value.kind)), shape)


def _plain(values: Array) -> onnx.TensorProto:
    """Return a tensor of little-endian bytes."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    data_type = _type(values.dtype)
    return onnx.TensorProto(dims=values.shape, data_type=data_type, raw_data=little.tobytes())


def _shortest(values: Array) -> onnx.TensorProto:
    """Return a tensor as plain bytes or as numbers of variable length, whatever takes less."""
    plain = _plain(values)
    field = FIELDS.get(values.dtype.name)
    if field is None:
        return plain
    short = onnx.TensorProto(dims=values.shape, data_type=plain.data_type)
    getattr(short, field).extend(values.ravel().tolist())
    return min(short, plain, key=lambda tensor: int(tensor.ByteSize()))


def _short_names() -> Iterator[str]:
    """Yield a, b, ... Z, aa, ...: letters first, so that none begins with a digit."""
    letters, all_signs = string.ascii_letters, string.ascii_letters + string.digits
    for length in count(0):
        for first, *rest in product(letters, *[all_signs] * length):
            yield "".join((first, *rest))

"""Compares two ONNX files as ONNX Runtime runs them: node by node, after it has optimised them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from sqtune.deploy.runtime import open_session


def differences(one: bytes, other: bytes) -> list[str]:
    """Return in what the optimised graphs of two files differ, a line each; empty where nowhere.

    Compared are the operators, their attributes but for defaults, what they read (whatever that is
    called) and all constants, byte for byte.
    """
    pair = [_steps(_optimised(data)) for data in (one, other)]
    found = [] if len(pair[0]) == len(pair[1]) else [f"{len(pair[0])} steps, {len(pair[1])} steps"]
    for index, (left, right) in enumerate(zip(*pair, strict=False)):
        found += [f"step {index}: {what}" for what in _unlike(left, right)]
    return found


def operators(data: bytes) -> list[str]:
    """Return the operators of a file's optimised graph, each before those that read it."""
    return [step[0] for step in _steps(_optimised(data))]


# operator, attributes, inputs; an input is the number of a step and of its result, or a constant
_Step = tuple[str, tuple[bytes, ...], tuple[object, ...]]


def _optimised(data: bytes) -> onnx.GraphProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        open_session(data, optimised_to=path)
        return onnx.load(path).graph


def _steps(graph: onnx.GraphProto) -> list[_Step]:
    """Return a graph's nodes in an order that hangs on its wiring alone."""
    constants = {tensor.name: _content(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output if name}
    known: dict[str, object] = {value.name: f"input {value.name}" for value in graph.input}
    known.update({"": "nothing"}, **constants)
    steps: list[_Step] = []
    for value in graph.output:
        for node in _behind(value.name, made_by, known):
            steps.append(
                (
                    f"{node.domain}:{node.op_type}".removeprefix(":"),
                    _attributes(node),
                    tuple(known[name] for name in node.input),
                )
            )
            for index, name in enumerate(node.output):
                known[name] = f"result {index} of step {len(steps) - 1}"
    return steps


def _attributes(node: onnx.NodeProto) -> tuple[bytes, ...]:
    """Return a node's attributes but for defaults, which some versions of operators spell out."""
    known = onnx.defs.has(node.op_type, node.domain)
    specs = onnx.defs.get_schema(node.op_type, domain=node.domain).attributes if known else {}
    given = {attribute.name: attribute.SerializeToString() for attribute in node.attribute}
    return tuple(
        content
        for name, content in sorted(given.items())
        if name not in specs or specs[name].default_value.SerializeToString() != content
    )


def _behind(
    name: str, made_by: dict[str, onnx.NodeProto], known: dict[str, object]
) -> Iterator[onnx.NodeProto]:
    """Yield what makes a value and is not known yet, each node behind those that it reads."""
    waiting = [name]
    while waiting:
        node = made_by.get(waiting[-1])
        if waiting[-1] in known or node is None:
            waiting.pop()
            continue
        missing = [given for given in node.input if given not in known]
        if missing:
            waiting.append(missing[0])
        else:
            yield node


def _content(tensor: onnx.TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    values = onnx.numpy_helper.to_array(tensor)
    return tensor.data_type, values.shape, values.tobytes()


def _unlike(left: _Step, right: _Step) -> list[str]:
    if left[0] != right[0]:
        return [f"{left[0]}, {right[0]}"]
    found = [f"attributes of {left[0]}"] if left[1] != right[1] else []
    if len(left[2]) != len(right[2]):
        return [*found, f"{left[0]} reads {len(left[2])} values, {len(right[2])} values"]
    for index, (a, b) in enumerate(zip(left[2], right[2], strict=True)):
        if a != b:
            found.append(f"input {index} of {left[0]}: {_named(a)}, {_named(b)}")
    return found


def _named(given: object) -> str:
    return f"a constant of shape {given[1]}" if isinstance(given, tuple) else str(given)

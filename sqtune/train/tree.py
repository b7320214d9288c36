"""Nested plain data with tensors in it as bytes and back: JSON and safetensors, no pickle.

Layout: length of the JSON (8 bytes, little endian), the JSON, the tensors as safetensors. In the
JSON a tensor is {"tensor": its name} and a tuple {"tuple": [...]}; mappings of ours have plain
string keys, so that each is wrapped as {"map": {...}}.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_LENGTH = struct.Struct("<Q")


def to_bytes(content: Any) -> bytes:
    """Return nested dicts (string keys), lists and tuples of tensors and plain values as bytes.

    Tensors are copied to the CPU; dtypes, shapes and bits are kept, memory formats are not.

    Raises:
        TypeError: Something else is in it.
    """
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_outline(content, tensors), separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(outline)), outline, save(tensors)))


def from_bytes(data: bytes) -> Any:
    """Return what `to_bytes` was given; its tensors are on the CPU.

    Raises:
        ValueError: The bytes are something else.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        return _filled(json.loads(data[_LENGTH.size : end]), load(data[end:]))
    except (struct.error, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no nested data: {error}") from error


def _outline(content: Any, tensors: dict[str, Tensor]) -> Any:
    match content:
        case Tensor():
            name = str(len(tensors))
            tensors[name] = content.detach().to("cpu", copy=True).contiguous()
            return {"tensor": name}
        case dict():
            if not all(isinstance(key, str) for key in content):
                raise TypeError(f"keys are strings, not {list(content)[:3]}")
            return {"map": {key: _outline(value, tensors) for key, value in content.items()}}
        case tuple():
            return {"tuple": [_outline(value, tensors) for value in content]}
        case list():
            return [_outline(value, tensors) for value in content]
        case None | bool() | int() | float() | str():
            return content
    raise TypeError(f"{type(content).__name__} is no plain data")


def _filled(outline: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(outline, list):
        return [_filled(value, tensors) for value in outline]
    if not isinstance(outline, dict):
        return outline
    ((kind, inside),) = outline.items()
    match kind:
        case "tensor":
            return tensors[inside]
        case "map":
            return {key: _filled(value, tensors) for key, value in inside.items()}
        case "tuple":
            return tuple(_filled(value, tensors) for value in inside)
    raise ValueError(f"{kind!r} is unknown")

"""Nested plain data with tensors in it as bytes and back: JSON and safetensors, no pickle.

Layout: length of the JSON (8 bytes, little endian), the JSON, the tensors as safetensors: one for
each dtype and device, with all of that kind end to end, since each costs as much as 100 KB. In the
JSON a tensor is {"tensor": [kind, first element, shape]}, a tuple {"tuple": [...]}, and a mapping
{"map": {...}}, so that its keys mean nothing.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_LENGTH = struct.Struct("<Q")


def to_bytes(content: Any) -> bytes:
    """Return nested dicts (string keys), lists and tuples of tensors and plain values as bytes.

    Tensors come from any device; dtypes, shapes and bits are kept, memory formats are not.

    Raises:
        TypeError: Something else is in it.
    """
    kinds: dict[str, _Pile] = defaultdict(_Pile)
    outline = json.dumps(_outline(content, kinds), separators=(",", ":")).encode()
    tensors = {kind: torch.cat(pile.parts).cpu() for kind, pile in kinds.items()}
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
    except (
        struct.error,
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise ValueError(f"no nested data: {error}") from error


@dataclass(slots=True)
class _Pile:
    """Tensors of one kind, flat, and how many elements they have."""

    parts: list[Tensor] = field(default_factory=list)
    num: int = 0

    def add(self, tensor: Tensor) -> int:
        """Add a tensor; return where it begins."""
        start = self.num
        self.parts.append(tensor.detach().reshape(-1))
        self.num += tensor.numel()
        return start


def _outline(content: Any, kinds: dict[str, _Pile]) -> Any:
    match content:
        case Tensor():
            kind = f"{content.dtype} {content.device}"
            return {"tensor": [kind, kinds[kind].add(content), list(content.shape)]}
        case dict():
            if not all(isinstance(key, str) for key in content):
                raise TypeError(f"keys are strings, not {list(content)[:3]}")
            return {"map": {key: _outline(value, kinds) for key, value in content.items()}}
        case tuple():
            return {"tuple": [_outline(value, kinds) for value in content]}
        case list():
            return [_outline(value, kinds) for value in content]
        case None | bool() | int() | float() | str():
            return content
    raise TypeError(f"{type(content).__name__} is no plain data")


def _filled(outline: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(outline, list):
        return [_filled(value, tensors) for value in outline]
    if not isinstance(outline, dict):
        return outline
    ((what, inside),) = outline.items()
    match what:
        case "tensor":
            kind, start, shape = inside
            num = torch.Size(shape).numel()
            return tensors[kind].narrow(0, start, num).view(shape).clone()
        case "map":
            return {key: _filled(value, tensors) for key, value in inside.items()}
        case "tuple":
            return tuple(_filled(value, tensors) for value in inside)
    raise ValueError(f"{what!r} is unknown")

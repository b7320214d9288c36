"""What a folder's manifest says that can be checked, read strictly from untrusted text."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from sqtune.deploy.checks.seal import MANIFEST, check_seal
from sqtune.errors import ExportError

FORMAT = 1
FORMS = ("onnx", "native", "torch", "c")
ACTIVATIONS = ("float", "trained", "int8", "int4", "int2")
MAX_MANIFEST_BYTES = 1 << 24
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}")
_MOST = 1 << 40

T = TypeVar("T")


class CannotCheckError(ExportError):
    """Nothing wrong was found, but this machine or this sqtune cannot check the folder."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a layer's codes lie in model.onnx.

    Attributes:
        tensor: Name of the initializer that holds them.
        kind: How it is packed (`sqtune.deploy.checks.unpack`).
        first: Index of the layer's first code in it.
        count: Number of codes.
        scale: Name of the initializer with the scale of each row's levels.
    """

    tensor: str
    kind: str
    first: int
    count: int
    scale: str


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer whose weights are codes.

    Attributes:
        name: Of its module.
        shape: Of its weight, rows first.
        placement: None for the forms that are no ONNX file.
        levels_sha256: Of the int8 levels in C order.
        scales_sha256: Of the float32 scales of levels.
    """

    name: str
    shape: tuple[int, ...]
    placement: Placement | None
    levels_sha256: str
    scales_sha256: str


@dataclass(frozen=True, slots=True)
class Described:
    """A manifest, as far as it can be checked.

    Attributes:
        form: One of `FORMS`.
        activations: One of `ACTIVATIONS`.
        num_rounded: Activations of an image that are put on a grid; 0 where an older one has none.
        image_shape: Channels, height, width.
        num_classes: Number of logits.
        oldest_runtime: The oldest ONNX Runtime for the file; None for other forms.
        num_layers: With those that stay float.
        packed: The layers whose weights are codes.
        sha256: Of each file, by name.
    """

    form: str
    activations: str
    num_rounded: int
    image_shape: tuple[int, ...]
    num_classes: int
    oldest_runtime: str | None
    num_layers: int
    packed: tuple[PackedLayer, ...]
    sha256: dict[str, str]


def described(text: bytes) -> Described:
    """Read a manifest.

    Raises:
        CannotCheckError: A later sqtune wrote it.
        ExportError: It is damaged or was changed.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise _broken("the file", f"at most {MAX_MANIFEST_BYTES} bytes", len(text))
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ExportError(
            f"{MANIFEST} is no JSON: {error}. Take a whole copy of the folder."
        ) from None
    version = _get(content, "format", int, "")
    if version > FORMAT:
        raise CannotCheckError(
            f"{MANIFEST} has format {version}; this sqtune knows up to {FORMAT}. "
            "Check it with a newer one."
        )
    check_seal(text)
    if version != FORMAT:
        raise _broken("format", str(FORMAT), version)
    form = _one_of(content, "form", FORMS)
    is_onnx = form in {"onnx", "native"}
    image, output = _get(content, "input", dict, ""), _get(content, "output", dict, "")
    image_shape = _shape(image, "shape", "input.")
    if len(image_shape) != 3:
        raise _broken("input.shape", "[channels, height, width]", str(image_shape))
    num_classes = _shape(output, "shape", "output.")
    classes = _get(content, "classes", list, "")
    if num_classes != (len(classes),):
        raise _broken("output.shape", f"[{len(classes)}], one for each class", str(num_classes))
    layers = _get(content, "layers", list, "")
    return Described(
        form=form,
        activations=_one_of(content, "activations", ACTIVATIONS),
        num_rounded=_rounded(content),
        image_shape=image_shape,
        num_classes=len(classes),
        oldest_runtime=_oldest(_get(content, "runtime", dict, "")) if is_onnx else None,
        num_layers=len(layers),
        packed=tuple(
            _layer(layer, f"layers[{index}].", is_onnx)
            for index, layer in enumerate(layers)
            if _is_packed(layer, f"layers[{index}].")
        ),
        sha256=_checksums(_get(content, "sha256", dict, "")),
    )


def _rounded(content: dict[str, Any]) -> int:
    num = _get({"rounded_activations": 0, **content}, "rounded_activations", int, "")
    if num < 0:
        raise _broken("rounded_activations", "0 or more", num)
    return num


def _checksums(content: dict[str, Any]) -> dict[str, str]:
    for name in content:
        if not _FILE.fullmatch(name) or name == MANIFEST:
            raise _broken("sha256", "the name of a file beside it", name)
        _matching(content, name, _SHA256, "sha256.")
    return content


def _oldest(content: dict[str, Any]) -> str:
    return _matching(content, "oldest_onnxruntime", _VERSION, "runtime.")


def _is_packed(content: Any, place: str) -> bool:
    if not isinstance(content, dict) or "levels_sha256" not in content:
        raise _broken(place + "levels_sha256", "there", content)
    return content["levels_sha256"] is not None


def _layer(content: Any, place: str, is_onnx: bool) -> PackedLayer:
    shape = _shape(content, "shape", place)
    placement = None
    if is_onnx:
        where, inside = _get(content, "placement", dict, place), place + "placement."
        placement = Placement(
            tensor=_get(where, "tensor", str, inside),
            kind=_get(where, "kind", str, inside),
            first=_get(where, "first", int, inside),
            count=_get(where, "count", int, inside),
            scale=_get(where, "scale", str, inside),
        )
        if placement.count != math.prod(shape):
            raise _broken(inside + "count", f"{math.prod(shape)} by its shape", placement.count)
    return PackedLayer(
        name=_get(content, "name", str, place),
        shape=shape,
        placement=placement,
        levels_sha256=_matching(content, "levels_sha256", _SHA256, place),
        scales_sha256=_matching(content, "scales_sha256", _SHA256, place),
    )


def _shape(content: Any, key: str, place: str) -> tuple[int, ...]:
    sizes = _get(content, key, list, place)
    fits = 0 < len(sizes) <= 8 and all(type(size) is int and 0 < size < _MOST for size in sizes)
    if not fits or math.prod(sizes) >= _MOST:
        raise _broken(place + key, "up to 8 sizes above 0", sizes)
    return tuple(sizes)


def _one_of(content: Any, key: str, known: tuple[str, ...]) -> str:
    value = _get(content, key, str, "")
    if value not in known:
        raise _broken(key, f"one of {', '.join(known)}", value)
    return value


def _matching(content: Any, key: str, pattern: re.Pattern[str], place: str) -> str:
    value = _get(content, key, str, place)
    if not pattern.fullmatch(value):
        raise _broken(place + key, f"like {pattern.pattern}", value)
    return value


def _get(content: Any, key: str, kind: type[T], place: str) -> T:
    value = content.get(key) if isinstance(content, dict) else None
    if type(value) is not kind:
        raise _broken(place + key, f"of type {kind.__name__}", value)
    return value


def _broken(place: str, rule: str, value: object) -> ExportError:
    plain = value is None or isinstance(value, str | int | float)
    shown = ascii(value) if plain else f"a {type(value).__name__}"
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ExportError(
        f"{MANIFEST}: {place} has to be {rule}, not {shown}. Take a whole copy of the folder."
    )

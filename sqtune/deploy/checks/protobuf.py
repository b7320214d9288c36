"""The protobuf wire format, read strictly: fields of a message, one level at a time.

Source: https://protobuf.dev/programming-guides/encoding. Never reads past a length that is there,
never recurses, copies nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from sqtune.errors import ExportError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # 3 and 4 are groups, which no ONNX file has
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


def damaged(what: str) -> ExportError:
    """Return the error for a file that breaks a rule."""
    return ExportError(f"model.onnx {what}: the file is damaged. Take a whole copy of the folder.")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: What it is, in its message's definition.
        kind: Its wire type.
        content: What it holds; none for a varint.
        whole: The value of a varint, 0 to 2**64 - 1.
    """

    number: int
    kind: int
    content: memoryview
    whole: int = 0

    def message(self) -> memoryview:
        """Return the bytes of a message, a text or a blob."""
        if self.kind != BYTES:
            raise damaged(f"has field {self.number} with wire type {self.kind}")
        return self.content

    def unsigned(self) -> int:
        """Return a single whole number."""
        if self.kind != VARINT:
            raise damaged(f"has field {self.number} with wire type {self.kind}")
        return self.whole

    def integers(self) -> array[int]:
        """Return the int64 of a repeated field: one, or many that are packed."""
        if self.kind == VARINT:
            return array("q", [_signed(self.whole)])
        found, place, content = array("q"), 0, self.message()
        while place < len(content):
            whole, place = _varint(content, place)
            found.append(_signed(whole))
        return found

    def text(self) -> str:
        """Return a text."""
        try:
            return str(self.message(), "utf-8")
        except UnicodeDecodeError:
            raise damaged(f"has field {self.number} that is no text") from None


def fields(message: memoryview) -> Iterator[Field]:
    """Yield a message's fields in order.

    Raises:
        ExportError: They do not fill it exactly.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise damaged(f"has a field of number {number}")
        if kind == VARINT:
            whole, place = _varint(message, place)
            yield Field(number, kind, message[:0], whole)
            continue
        if kind == BYTES:
            size, place = _varint(message, place)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise damaged(f"has field {number} with wire type {kind}")
        if size > len(message) - place:
            raise damaged(f"ends inside of field {number}")
        yield Field(number, kind, message[place : place + size])
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a whole number (0 to 2**64 - 1) and where it ends."""
    whole = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise damaged("ends inside of a number")
        byte = message[place]
        place += 1
        whole |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise damaged("has a number of more than 10 bytes")
    if whole >> 64:
        raise damaged("has a number of more than 64 bits")
    return whole, place


def _signed(whole: int) -> int:
    return whole - (1 << 64) if whole >> 63 else whole

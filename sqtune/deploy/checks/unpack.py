"""Decodes a layer's levels from the bytes of an ONNX file, with numpy alone.

The layers of one kind stand one after the other in one tensor, without padding between them; the
first digit of a byte is its lowest one.

kind        bytes    level of a digit
binary      8 each   2 * digit - 1
ternary     5 each   digit - 1, base 3
2 bits      4 each   2 * digit - 3: the half-integers -1.5 to 1.5, doubled
4 bits      2 each   digit - 8
planes K    K rows of 8 each; row i holds the bits 2**i of the digits; digit - 2**(K - 1)
8 bits, int8, int4, int2    ONNX's own signed types: 1, 1, 2 and 4 each
int2 odd    4 each   likewise, 2 * code + 1: the half-integers again
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sqtune.deploy.checks.wire import FLOAT, INT2, INT4, INT8, UINT8, Tensor
from sqtune.errors import ExportError

Levels = npt.NDArray[np.int8]
Digits = npt.NDArray[np.uint8]

DATA_TYPES = {
    "binary": UINT8,
    "ternary": UINT8,
    "2 bits": UINT8,
    "4 bits": UINT8,
    **{f"planes {bits}": UINT8 for bits in (3, 5, 6, 7)},
    "8 bits": INT8,
    "int8": INT8,
    "int4": INT4,
    "int2": INT2,
    "int2 odd": INT2,
}
_TRITS, _NUM_TRIT_BYTES = 5, 3**5


def levels(tensor: Tensor, kind: str, first: int, count: int) -> Levels:
    """Return `count` levels (int8, flat), from the code of index `first` on.

    Raises:
        ExportError: The tensor is not of this kind, or does not hold so many.
    """
    wanted = DATA_TYPES.get(kind)
    if wanted is None:
        raise ExportError(f"{kind!a} is no kind of packed weights; known are: {_known()}.")
    if tensor.data_type != wanted:
        raise ExportError(
            f'tensor "{tensor.name}" of model.onnx has data type {tensor.data_type}, but codes of '
            f'kind "{kind}" have {wanted}: the folder is damaged.'
        )
    available = _num_digits(tensor, kind)
    if not 0 <= first <= first + count <= available:
        raise ExportError(
            f'tensor "{tensor.name}" of model.onnx holds {available} codes of kind "{kind}", not '
            f"{count} from {first} on: the folder is damaged."
        )
    stored = np.frombuffer(tensor.raw, np.uint8)
    match kind:
        case "binary":
            return _signed(_bits(stored, 1, first, count), 2, 1)
        case "ternary":
            return _signed(_trits(tensor.name, stored, first, count), 1, 1)
        case "2 bits":
            return _signed(_bits(stored, 2, first, count), 2, 3)
        case "4 bits":
            return _signed(_bits(stored, 4, first, count), 1, 8)
        case "int4":  # two's complement: the sign's bit the other way makes it a digit
            return _signed(_bits(stored, 4, first, count) ^ np.uint8(8), 1, 8)
        case "int2":
            return _signed(_bits(stored, 2, first, count) ^ np.uint8(2), 1, 2)
        case "int2 odd":
            return _signed(_bits(stored, 2, first, count) ^ np.uint8(2), 2, 3)
        case "8 bits" | "int8":
            return stored[first : first + count].view(np.int8)
    num_planes = int(kind.removeprefix("planes "))
    digits = np.zeros(count, np.uint8)
    for plane, row in enumerate(stored.reshape(num_planes, -1)):
        digits |= _bits(row, 1, first, count) << np.uint8(plane)
    return _signed(digits, 1, 1 << (num_planes - 1))


def scales(tensor: Tensor, num_rows: int) -> npt.NDArray[np.float32]:
    """Return the float32 scale of each row's levels.

    Raises:
        ExportError: The tensor does not hold just these.
    """
    if tensor.data_type != FLOAT or tensor.count != num_rows:
        raise ExportError(
            f'tensor "{tensor.name}" of model.onnx holds {tensor.count} elements of data type '
            f"{tensor.data_type}, not the {num_rows} float32 scales of a layer: the folder is "
            "damaged."
        )
    return np.frombuffer(tensor.raw, "<f4").astype(np.float32)


def _num_digits(tensor: Tensor, kind: str) -> int:
    """Return how many codes a tensor holds, unused digits included."""
    if tensor.data_type != UINT8:
        return tensor.count
    if kind.startswith("planes"):
        num_planes = int(kind.removeprefix("planes "))
        if len(tensor.dims) != 2 or tensor.dims[0] != num_planes:
            raise ExportError(
                f'tensor "{tensor.name}" of model.onnx has shape {list(tensor.dims)}, not one row '
                f"for each of {num_planes} bit planes: the folder is damaged."
            )
        return 8 * tensor.dims[1]
    return tensor.count * {"binary": 8, "ternary": _TRITS, "2 bits": 4, "4 bits": 2}[kind]


def _bits(stored: Digits, bits: int, first: int, count: int) -> Digits:
    """Return digits of 1, 2 or 4 bits."""
    per_byte = 8 // bits
    begin, skipped = divmod(first, per_byte)
    needed = stored[begin : -(-(first + count) // per_byte)]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    digits: Digits = (needed[:, None] >> shifts & np.uint8((1 << bits) - 1)).ravel()
    return digits[skipped : skipped + count]


def _trits(name: str, stored: Digits, first: int, count: int) -> Digits:
    begin, skipped = divmod(first, _TRITS)
    needed = stored[begin : -(-(first + count) // _TRITS)]
    if (needed >= _NUM_TRIT_BYTES).any():
        raise ExportError(
            f'tensor "{name}" of model.onnx has bytes above {_NUM_TRIT_BYTES - 1}, which stand for '
            "no five ternary codes: the folder is damaged."
        )
    powers = np.array([3**place for place in range(_TRITS)], np.uint8)
    digits: Digits = (needed[:, None] // powers % np.uint8(3)).ravel()
    return digits[skipped : skipped + count]


def _signed(digits: Digits, factor: int, shift: int) -> Levels:
    """Return factor * digit - shift."""
    return digits.astype(np.int8) * np.int8(factor) - np.int8(shift)


def _known() -> str:
    return ", ".join(DATA_TYPES)

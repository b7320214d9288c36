"""The constant data of a C source: what lies in flash beside the code, counted to the byte."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import torch

from sqtune.deploy.graph import Floats, Packed
from sqtune.errors import ExportError
from sqtune.quant.packing import pack

WIDTH = 100  # of a line
CONVOLUTION_BYTES = 22  # of the record in c/types.c


class Constants:
    """Constant arrays, each once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._names: dict[tuple[str, str, bytes], str] = {}
        self._sizes: dict[str, int] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes of all of them."""
        return sum(self._sizes.values())

    @property
    def names(self) -> list[str]:
        """Names of all of them."""
        return list(self._texts)

    def text(self) -> str:
        """Return all of them in C."""
        return "\n".join(self._texts.values())

    def codes(self, weight: Packed) -> str:
        """Take in a layer's packed codes and return the array's name."""
        packed = pack(torch.from_numpy(weight.codes), weight.quantizer).numpy()
        return self._array(weight.source.removesuffix(".weight"), "codes", "uint8_t", packed)

    def floats(self, name: str, kind: str, values: Floats) -> str:
        """Take in float32 numbers and return the array's name.

        Raises:
            ExportError: One of them is not finite.
        """
        if not np.isfinite(values).all():
            raise ExportError(f"{name}: {kind} are not finite; the network did not train.")
        return self._array(name, kind, "float", values.astype(np.float32).ravel())

    def levels(self, name: str, values: npt.NDArray[np.int8]) -> str:
        """Take in small whole numbers and return the array's name."""
        return self._array(name, "", "int8_t", values.ravel())

    def convolution(self, name: str, fields: dict[str, int]) -> str:
        """Take in the record of a convolution and return its name."""
        content = ", ".join(str(value) for value in fields.values())
        return self._add(
            name, "shape", "Convolution", content.encode(), f"{{{content}}}", CONVOLUTION_BYTES
        )

    def _array(self, name: str, kind: str, ctype: str, values: npt.NDArray[np.generic]) -> str:
        shown = [number(value) for value in values] if ctype == "float" else map(str, values)
        content = "{\n" + "\n".join(_lines(list(shown))) + "\n}"
        suffix = f"[{values.size}]"
        return self._add(name, kind, ctype, values.tobytes(), content, values.nbytes, suffix)

    def _add(
        self,
        name: str,
        kind: str,
        ctype: str,
        key: bytes,
        content: str,
        size: int,
        suffix: str = "",
    ) -> str:
        known = (name, kind, key)
        if known not in self._names:
            chosen = wanted = "_".join(part for part in (identifier(name), kind) if part)
            count = 1
            while chosen in self._texts:
                count += 1
                chosen = f"{wanted}_{count}"
            self._names[known] = chosen
            self._texts[chosen] = f"static const {ctype} {chosen}{suffix} = {content};\n"
            self._sizes[chosen] = size
        return self._names[known]


def number(value: float | np.generic) -> str:
    """Return a float32 in C, exactly: the shortest digits that give it again."""
    shown = str(np.float32(value))
    return f"{shown}f" if "." in shown or "e" in shown else f"{shown}.0f"


def identifier(name: str) -> str:
    """Return a name made of what C allows in one; "c_" in front keeps it apart from all others."""
    return "c_" + re.sub(r"[^0-9A-Za-z]", "_", name)


def _lines(items: list[str]) -> list[str]:
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return [*lines, line]

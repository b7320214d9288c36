"""The C functions that a network needs, from the files beside this module, each once.

Words in capitals in a file (INPUT, KIND, ...) are replaced, so that one file serves several element
types.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from sqtune.deploy.c.plan import View
from sqtune.deploy.graph import Packed
from sqtune.quant import LearnedTernary, LearnedUniform, Ternary, Uniform

TERNARY_DIGITS = [[code // 3**digit % 3 - 1 for digit in range(5)] for code in range(243)]
WITH_MATH = ("sigmoid", "silu", "gelu", "tanh")


@cache
def text(file: str) -> str:
    """Return a file of C."""
    return (files("sqtune.deploy.c") / f"{file}.c").read_text(encoding="utf-8")


class Functions:
    """The functions that a source file needs, in the order in which they have to stand."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self.needs_math = False

    def text(self) -> str:
        """Return all of them."""
        return "\n".join(self._texts.values())

    def use(self, file: str, **words: str) -> str:
        """Take in the function of a file and return its name.

        Words are replaced in the name too: `use("mean", INPUT="u8")` gives "mean_u8".
        """
        name = f"{file}_{words['INPUT']}" if "INPUT" in words else file
        return self.use_as(name, file, **words)

    def use_as(self, name: str, file: str, **words: str) -> str:
        """Take in the function of a file under a name that is given."""
        if name not in self._texts:
            body = text(file)
            for word, replacement in words.items():
                body = body.replace(word, replacement)
            self._texts[name] = body
        return name

    def load(self, view: View) -> str:
        """Return the element type of what is read, whose loading function is taken in."""
        kind = element_type(view)
        self.use(f"load_{kind}")
        return kind

    def reading(self, file: str, view: View, **words: str) -> str:
        """Take in a function that reads a value, and return its name."""
        return self.use(file, INPUT=self.load(view), **words)

    def unpack(self, weight: Packed) -> str:
        """Take in the function that unpacks a layer's weights, and return its name."""
        match weight.quantizer:
            case Ternary() | LearnedTernary():
                return self.use("unpack_ternary")
            case Uniform(bits=2 | 4 | 8 as bits) | LearnedUniform(bits=2 | 4 | 8 as bits):
                return self.use(f"unpack_{bits}_bits")
            case Uniform(bits=bits) | LearnedUniform(bits=bits):
                top = 2 ** (bits - 1) - 1
                name = f"unpack_{bits}_planes"
                return self.use_as(name, "unpack_planes", BITS=str(bits), TOP=str(top))
            case _:
                return self.use("unpack_binary")

    def function(self, name: str) -> str:
        """Take in a function of one element and return its name."""
        self.needs_math = self.needs_math or name in WITH_MATH
        return self.use(f"function_{name}")


def element_type(view: View) -> str:
    """Return the C name of an element type: f32, or u and s for codes without and with a sign."""
    if view.grid is None:
        return "f32"
    return f"{'s' if view.grid.low < 0 else 'u'}{view.bits}"

"""What to quantize to and which rows: frozen descriptions that need no torch to be read or checked.

Source: Dong et al., "Learning Accurate Low-Bit Deep Neural Networks with Stochastic Quantization",
BMVC 2017 (called "the paper" below), and its authors' released code ("the reference code").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from sqtune.errors import QuantizationError, did_you_mean

TernaryThreshold = Literal["layer_centred", "layer", "row"]
SelectionFunction = Literal["constant", "linear", "softmax", "sigmoid", "error"]
SelectionStrategy = Literal["stochastic", "deterministic", "fixed"]
Granularity = Literal["filter", "element"]
Clipping = Literal["lsq", "pact"]


def require_one_of(value: str, choices: object, what: str) -> None:
    """Raise QuantizationError unless `value` is one of a Literal type's values."""
    names = get_args(choices)
    if value not in names:
        raise QuantizationError(f"{what} {value!r} is unknown. {did_you_mean(str(value), names)}")


@dataclass(frozen=True, slots=True)
class Float:
    """No quantization: the full-precision baseline (FWN in the paper)."""

    name: Literal["float"] = field(default="float", kw_only=True)
    bits: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class Binary:
    """Weights in {-a, +a}, `a` the row's mean absolute weight (BWN; the paper, section 2.1)."""

    name: Literal["binary"] = field(default="binary", kw_only=True)
    bits: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Ternary:
    """Weights in {-a, 0, +a}; zero where |w| is at most 0.7 of a mean (TWN).

    Attributes:
        threshold: Where the mean is taken. `layer_centred`: of |W - mean W| over the layer (the
            reference code). `layer`: of |W| over the layer (TWN's own paper). `row`: of |w| in
            each row.
    """

    name: Literal["ternary"] = field(default="ternary", kw_only=True)
    threshold: TernaryThreshold = "layer_centred"
    bits: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require_one_of(self.threshold, TernaryThreshold, "ternary threshold")


@dataclass(frozen=True, slots=True)
class Uniform:
    """A symmetric uniform grid with one scale per row (beyond the paper).

    3 bits and more have 2**bits - 1 levels around zero. 2 bits have the four half-integer levels
    -1.5, -0.5, 0.5 and 1.5 times the scale, since a narrow 2-bit grid is just the ternary one.

    Attributes:
        bits: 2 to 8.
        scale_steps: Steps of alternating least squares that refine the scale from max-abs; 0
            keeps max-abs. The squared error never gets worse than max-abs's.
    """

    name: Literal["uniform"] = field(default="uniform", kw_only=True)
    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4
    scale_steps: int = 5

    def __post_init__(self) -> None:
        if self.bits not in range(2, 9):
            raise QuantizationError(
                f"a uniform grid has 2 to 8 bits, not {self.bits}. "
                'For 1 bit take the quantizer "binary".'
            )
        if not 0 <= self.scale_steps <= 100:
            raise QuantizationError(f"scale_steps is 0 to 100, not {self.scale_steps}.")


@dataclass(frozen=True, slots=True)
class LearnedUniform:
    """The uniform grid with a learned step per row (LSQ; Esser et al., ICLR 2020).

    The grid is that of `Uniform`; the step is the scale, trained by gradient beside the weights.

    Attributes:
        bits: 2 to 8.
    """

    name: Literal["lsq"] = field(default="lsq", kw_only=True)
    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 4

    def __post_init__(self) -> None:
        if self.bits not in range(2, 9):
            raise QuantizationError(
                f"a learned uniform grid has 2 to 8 bits, not {self.bits}. "
                'For three levels take the quantizer "lsq_ternary".'
            )


@dataclass(frozen=True, slots=True)
class LearnedTernary:
    """Weights in {-s, 0, +s} with a learned step `s` per row: LSQ's ternary case."""

    name: Literal["lsq_ternary"] = field(default="lsq_ternary", kw_only=True)
    bits: ClassVar[int] = 2


Quantizer = Float | Binary | Ternary | Uniform | LearnedUniform | LearnedTernary
Learned = LearnedUniform | LearnedTernary


@dataclass(frozen=True, slots=True)
class LayerRule:
    """Gives some layers a quantizer of their own.

    Attributes:
        match: Regular expression for a module's whole name or that of a module around it:
            "group1" names all layers of group1, "stem|head" these two.
        quantizer: What those layers are quantized to; Float keeps them float.
    """

    match: str
    quantizer: Quantizer

    def __post_init__(self) -> None:
        try:
            re.compile(self.match)
        except re.error as error:
            raise QuantizationError(
                f"match {self.match!r} is no regular expression: {error}. Write a name such as "
                "group1, or \\. for a dot."
            ) from None


@dataclass(frozen=True, slots=True)
class Activations:
    """What the inputs of quantized layers are quantized to, with a learned clipping point.

    Attributes:
        bits: 2, 4 or 8; unsigned where a layer's inputs are never negative.
        clipping: How the clipping point is learned. `lsq`: a learned step (Esser et al., 2020).
            `pact`: a learned ceiling (Choi et al., 2018).
        ends_bits: Bits of the first and the last layer's inputs, at least `bits`; 32 leaves them
            float.
    """

    bits: Literal[2, 4, 8] = 8
    clipping: Literal["lsq", "pact"] = "lsq"
    ends_bits: Literal[2, 4, 8, 32] = 8

    def __post_init__(self) -> None:
        if self.bits not in (2, 4, 8):
            raise QuantizationError(f"activations have 2, 4 or 8 bits, not {self.bits}.")
        require_one_of(self.clipping, Clipping, "clipping")
        if self.ends_bits not in (2, 4, 8, 32) or self.ends_bits < self.bits:
            raise QuantizationError(
                f"ends_bits is 2, 4, 8 or 32 (float), and at least the {self.bits} bits of the "
                f"other layers, not {self.ends_bits}."
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are quantized at a training step (the paper, sections 3.2 and 4.3).

    Attributes:
        function: Maps a row's quantization error e to its weight in the draw. `linear` (the
            paper's best): 1/e. `constant`: equal. `softmax`: exp(1/e). `sigmoid`:
            1/(1 + exp(-1/e)), nearly constant, since e is seldom above 1. `error`: the
            reference code's way, which draws the rows that stay real, in proportion to e.
        strategy: `stochastic` draws anew at each step; `deterministic` always takes the rows of
            smallest error; `fixed` draws whenever the ratio changes and keeps that partition.
        granularity: `filter`: a row is an output filter. `element`: each weight is a row of its
            own, its scale still comes from its filter.
    """

    function: SelectionFunction = "linear"
    strategy: SelectionStrategy = "stochastic"
    granularity: Granularity = "filter"

    def __post_init__(self) -> None:
        require_one_of(self.function, SelectionFunction, "selection function")
        require_one_of(self.strategy, SelectionStrategy, "selection strategy")
        require_one_of(self.granularity, Granularity, "granularity")

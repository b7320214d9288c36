"""The method: Stochastic Quantization. Needs torch and the standard library, nothing else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sqtune.quant.schedule import (
    Average,
    Exponential,
    Schedule,
    Stages,
    epoch_ratio,
    epoch_stage,
)
from sqtune.quant.schedule_curves import CosineRise, Cubic, Linear
from sqtune.quant.spec import (
    Activations,
    Binary,
    Float,
    LayerRule,
    LearnedTernary,
    LearnedUniform,
    Quantizer,
    Selection,
    Ternary,
    Uniform,
)

if TYPE_CHECKING:
    from sqtune.quant.diagnostics import LayerDiagnostics
    from sqtune.quant.frozen import FrozenLayer
    from sqtune.quant.layers import quantizable_weights
    from sqtune.quant.packing import pack, packed_bytes, unpack
    from sqtune.quant.quantizers import QuantizedRows, quantize_rows, row_errors
    from sqtune.quant.selection import select_rows
    from sqtune.quant.stochastic import StochasticQuantization

# Imported at first use: a specification is read and checked without torch.
_HOMES = {
    "pack": "packing",
    "packed_bytes": "packing",
    "unpack": "packing",
    "QuantizedRows": "quantizers",
    "quantize_rows": "quantizers",
    "row_errors": "quantizers",
    "select_rows": "selection",
    "FrozenLayer": "frozen",
    "LayerDiagnostics": "diagnostics",
    "StochasticQuantization": "stochastic",
    "quantizable_weights": "layers",
}

__all__ = [
    "Activations",
    "Average",
    "Binary",
    "CosineRise",
    "Cubic",
    "Exponential",
    "Float",
    "FrozenLayer",
    "LayerDiagnostics",
    "LayerRule",
    "LearnedTernary",
    "LearnedUniform",
    "Linear",
    "QuantizedRows",
    "Quantizer",
    "Schedule",
    "Selection",
    "Stages",
    "StochasticQuantization",
    "Ternary",
    "Uniform",
    "epoch_ratio",
    "epoch_stage",
    "pack",
    "packed_bytes",
    "quantizable_weights",
    "quantize_rows",
    "row_errors",
    "select_rows",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sqtune.quant.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

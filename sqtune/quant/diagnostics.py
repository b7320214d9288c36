"""What happens to each layer while it trains: errors, codes that change, rows that are drawn.

Shape name: O rows (output channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sqtune.quant.layers import Layer, from_rows, to_rows
from sqtune.quant.quantizers import QuantizedRows, quantize_rows, row_errors


@dataclass(frozen=True, slots=True)
class LayerDiagnostics:
    """One layer since the last look.

    Attributes:
        error_O: Relative quantization error of each row, now.
        changed: Share of the rows (0..1) in which a code has changed since the last look; None at
            the first.
        drawn_O: Share of the steps (0..1) at which each row was quantized; with single weights
            drawn, the mean over the row's weights. Zero where no step was made.
    """

    error_O: Tensor
    changed: Tensor | None
    drawn_O: Tensor


class Diagnostics:
    """Keeps the codes of the last look.

    Args:
        layers: What is quantized.
        steps: Learned steps by layer.
    """

    def __init__(self, layers: Sequence[Layer], steps: Mapping[str, Tensor]) -> None:
        self._layers, self._steps = layers, steps
        self._codes: dict[str, Tensor] = {}

    def take(self, counts: Mapping[str, Tensor], num_draws: int) -> dict[str, LayerDiagnostics]:
        """Look at all layers.

        Args:
            counts: How often each row was quantized; empty where no step was made.
            num_draws: Of so many steps.
        """
        found = {}
        for layer in self._layers:
            rows, error_O = self._look(layer)
            codes = from_rows(rows.codes_OK, layer.weight, layer.groups)  # in any memory format
            before, self._codes[layer.name] = self._codes.get(layer.name), codes
            changed = None
            if before is not None:
                changed = to_rows(before != codes, layer.groups).any(dim=1).float().mean()
            count_O = counts.get(layer.name, torch.zeros_like(error_O))
            found[layer.name] = LayerDiagnostics(error_O, changed, count_O / max(num_draws, 1))
        return found

    def _look(self, layer: Layer) -> tuple[QuantizedRows, Tensor]:
        w_OK = to_rows(layer.weight.detach(), layer.groups)
        rows = quantize_rows(w_OK, layer.quantizer, self._steps.get(layer.name))
        return rows, row_errors(w_OK, rows.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the codes of the last look."""
        return {name: codes.clone() for name, codes in self._codes.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        weights = {layer.name: layer.weight for layer in self._layers}
        self._codes = {
            name: codes.to(weights[name].device, copy=True) for name, codes in state.items()
        }

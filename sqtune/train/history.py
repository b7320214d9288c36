"""What happened to each layer, epoch by epoch: kept beside the trained network, for plots.

FOLDER/layers.safetensors, tensors by parameter name (E epochs, O rows):

    <name>.error     float32, E x O: relative quantization error of each filter
    <name>.drawn     float32, E x O: share of the epoch's steps at which it was quantized (0..1)
    <name>.changed   float32, E: share of the filters in which a code changed (0..1)

The rows of a float warm-up's epochs are NaN: nothing was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sqtune.quant import LayerDiagnostics

LAYERS = "layers.safetensors"


class LayerHistory:
    """Collects the layers' diagnostics; one look comes before the first quantized epoch."""

    def __init__(self) -> None:
        self._num_float = 0
        self._quantized: dict[str, Tensor] = {}

    def add_float(self) -> None:
        """Add an epoch of a float warm-up."""
        self._num_float += 1

    def add(self, layers: Mapping[str, LayerDiagnostics]) -> tuple[float, float]:
        """Add an epoch; return mean quantization error and share of changed filters, over all.

        Args:
            layers: At least one.
        """
        num_changed, num_rows = 0.0, 0
        for name, layer in layers.items():
            changed = torch.zeros(()) if layer.changed is None else layer.changed
            found = {"error": layer.error_O, "drawn": layer.drawn_O, "changed": changed}
            for key, value in found.items():
                before, row = self._quantized.get(f"{name}.{key}"), value.float().cpu()[None]
                self._quantized[f"{name}.{key}"] = (
                    row if before is None else torch.cat((before, row))
                )
            num_changed += float(changed.float()) * len(layer.error_O)
            num_rows += len(layer.error_O)
        errors = torch.cat([layer.error_O for layer in layers.values()])
        return float(errors.mean()), num_changed / num_rows

    def save(self, folder: Path) -> None:
        """Write the epochs so far."""
        tensors = {}
        for name, quantized in self._quantized.items():
            nothing = quantized.new_full((self._num_float, *quantized.shape[1:]), math.nan)
            tensors[name] = torch.cat((nothing, quantized))
        (folder / LAYERS).write_bytes(save(tensors))

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs so far."""
        return {"num_float": self._num_float, "quantized": dict(self._quantized)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._num_float, self._quantized = state["num_float"], dict(state["quantized"])

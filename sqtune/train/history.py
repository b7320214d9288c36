"""What happened to each layer, epoch by epoch: kept beside the trained network, for plots.

FOLDER/layers.safetensors, tensors by parameter name (E epochs, O rows):

    <name>.error     float32, E x O: relative quantization error of each filter
    <name>.drawn     float32, E x O: share of the epoch's steps at which it was quantized (0..1)
    <name>.changed   float32, E: share of the filters in which a code changed (0..1)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sqtune.quant import LayerDiagnostics

LAYERS = "layers.safetensors"


class LayerHistory:
    """Collects the layers' diagnostics; one look at the fresh weights comes before the first."""

    def __init__(self) -> None:
        self._epochs: list[dict[str, dict[str, Tensor]]] = []

    def add(self, layers: Mapping[str, LayerDiagnostics]) -> tuple[float, float]:
        """Add an epoch; return mean quantization error and share of changed filters, over all.

        Both are 0 for a float network.
        """
        epoch = {}
        for name, layer in layers.items():
            changed = torch.zeros(()) if layer.changed is None else layer.changed
            found = {"error": layer.error_O, "drawn": layer.drawn_O, "changed": changed}
            epoch[name] = {key: value.float().cpu() for key, value in found.items()}
        self._epochs.append(epoch)
        if not layers:
            return 0.0, 0.0
        errors = torch.cat([layer.error_O for layer in layers.values()])
        num_changed = sum(float(one["changed"]) * len(one["error"]) for one in epoch.values())
        return float(errors.mean()), num_changed / len(errors)

    def save(self, folder: Path) -> None:
        """Write the epochs so far."""
        tensors = {}
        for name, first in self._epochs[0].items() if self._epochs else ():
            for key in first:
                parts = [epoch[name][key] for epoch in self._epochs]
                tensors[f"{name}.{key}"] = torch.stack(parts)
        save_file(tensors, folder / LAYERS)

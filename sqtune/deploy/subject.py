"""What is exported: a trained network with its graph, its images and its own predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sqtune.data.batches import EVALUATION_BATCH, Normalize
from sqtune.data.split import MemorySplits
from sqtune.deploy.graph import Graph, Grid
from sqtune.deploy.lower import Trained, lower
from sqtune.errors import ExportError
from sqtune.quant import FrozenLayer
from sqtune.train.checkpoint import SavedNetwork, load_codes, load_network


@dataclass(frozen=True, slots=True)
class Subject:
    """A trained network, ready to be exported.

    Attributes:
        saved: The network with its latent weights.
        codes: What is delivered of its quantized weights, by parameter name.
        graph: The same as a graph, batch norm folded in.
        splits: The images it was trained, ranked and tested on.
        logits: Its own on the validation split (N x classes), all weights quantized, in float32.
    """

    saved: SavedNetwork
    codes: dict[str, FrozenLayer]
    graph: Graph
    splits: MemorySplits
    logits: Tensor

    @property
    def has_low_bit_inputs(self) -> bool:
        """Whether it was trained with low-bit activations."""
        return self.saved.config.activations is not None and bool(_grids(self.saved))


def open_subject(folder: Path, splits: MemorySplits) -> Subject:
    """Read a trained network and trace it.

    Args:
        folder: What training wrote.
        splits: The data set that it was trained on.

    Raises:
        StoreError: The folder is missing something or damaged.
        ExportError: The network cannot be exported, or its images are others by now.
    """
    saved, codes = load_network(folder), load_codes(folder)
    if saved.about.data_fingerprint != splits.fingerprint:
        raise ExportError(
            f"{folder}: its images are not those it was trained on ({saved.config.data.name}): "
            "nothing could be compared. Bring them back, or train it anew."
        )
    _refuse_other_codes(folder, saved, codes)
    about = saved.about
    trained = Trained(
        model=saved.model,
        layers=codes,
        quantizers=saved.quantization.quantizers,
        grids=_grids(saved),
        classes=about.classes,
        image_shape=(about.num_channels, *about.image_size),
        mean=about.mean,
        std=about.std,
    )
    graph = lower(trained)
    logits = trained_logits(saved, splits.validation.images)
    if not bool(logits.isfinite().all()):
        raise ExportError(
            f"{folder}: its outputs are not finite: it cannot be compared. Train it anew, with a "
            "lower learning rate."
        )
    return Subject(saved, codes, graph, splits, logits)


@torch.no_grad()
def trained_logits(saved: SavedNetwork, pixels: Tensor) -> Tensor:
    """Return a trained network's logits (N x classes), all weights quantized, in float32.

    Args:
        saved: The network.
        pixels: uint8, N x C x H x W.
    """
    normalize = Normalize(saved.about.mean, saved.about.std, torch.device("cpu"))
    with saved.quantization.quantized():
        return torch.cat(
            [saved.model(normalize(batch)) for batch in pixels.split(EVALUATION_BATCH)]
        )


def _refuse_other_codes(folder: Path, saved: SavedNetwork, codes: dict[str, FrozenLayer]) -> None:
    """Raise ExportError where the stored codes are not those of the stored weights."""
    for name, layer in saved.quantization.codes().items():
        stored = codes.get(name)
        same = stored is not None and all(
            torch.equal(one.cpu(), other.cpu())
            for one, other in ((layer.codes, stored.codes), (layer.scale_O, stored.scale_O))
        )
        if not same:
            raise ExportError(
                f"{folder}: the codes of {name} are not those of its weights (another version of "
                "torch or another machine may round otherwise). Train it anew here."
            )


def _grids(saved: SavedNetwork) -> dict[str, Grid]:
    """Return the grids of the inputs of layers, by module name."""
    grids = {}
    activations = saved.config.activations
    layers = saved.quantization.state_dict()["activations"].get("layers", {})
    for name, layer in layers.items():
        low, top = int(layer["low"]), int(layer["top"])
        learned = layer["learned"].cpu().float()
        assert activations is not None
        step = learned / layer["top"].cpu() if activations.clipping == "pact" else learned
        grids[name] = Grid((top - low).bit_length(), low, top, float(np.float32(step)))
    return grids

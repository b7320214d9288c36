"""A trained network in one small safetensors file, and back: no pickle, nothing executed.

Tensors (layers and other parameters in the order of the network's state_dict, one behind the other;
a header entry for each would take a fifth of a small network's file):

codes    uint8: each quantized layer's packed codes (`sqtune.quant.packing`)
scales   float32: each quantized layer's scales, one a row; weight == (code + offset) * scale
floats   float32: everything else: batch norms, biases, layers that stay float
inputs   float32, layers x 3: clipping point, lowest and highest code of low-bit activations
state.*  what is not float32; counters of batch norms, which evaluation does not read, are left out

Metadata: `config` (the trial's configuration, from which the network is built), `about` (classes,
image shape, normalisation), `layout` (sha256 of names, shapes and quantizers), and `sha256` of the
whole file with zeros in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor, nn

from sqtune import __version__
from sqtune.config.trial import TrialConfig
from sqtune.deploy.trained_network import TrainedNetwork
from sqtune.errors import ExportError, NetworkError, QuantizationError
from sqtune.networks import build
from sqtune.networks.by_factory import refuse_unasked
from sqtune.quant import (
    FrozenLayer,
    LearnedUniform,
    Quantizer,
    Uniform,
    pack,
    packed_bytes,
    unpack,
)
from sqtune.quant.activations import LowBitActivations
from sqtune.quant.layers import Layer, find_layers
from sqtune.quant.quantizers import grid_of
from sqtune.train.checkpoint import About, SavedNetwork, metadata_in_order

FORMAT = "sqtune network 1"
NO_SHA256 = "0" * 64
COUNTER = "num_batches_tracked"
CLIPPING = ("learned", "low", "top")

_ABOUT = TypeAdapter(About)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a network's state lies in the file.

    Attributes:
        layers: Quantized.
        floats: Other float32 tensors by name.
        others: Tensors of other types by name.
    """

    layers: list[Layer]
    floats: dict[str, Tensor]
    others: dict[str, Tensor]

    def sha256(self) -> str:
        """Return what tells this layout from others."""
        rows = [[x.name, list(x.weight.shape), asdict(x.quantizer)] for x in self.layers]
        rest = [[name, list(tensor.shape)] for name, tensor in self.floats.items()]
        return hashlib.sha256(json.dumps([rows, rest], sort_keys=True).encode()).hexdigest()


def _layout(model: nn.Module, layers: Iterable[Layer]) -> _Layout:
    layout = _Layout(list(layers), {}, {})
    seen = {id(layer.weight) for layer in layout.layers}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or name.rpartition(".")[2] == COUNTER:
            continue
        seen.add(id(tensor))
        kept = layout.floats if tensor.dtype == torch.float32 else layout.others
        kept[name] = tensor.detach()
    return layout


def torch_bytes(saved: SavedNetwork, layers: Mapping[str, FrozenLayer]) -> bytes:
    """Return a trained network as a file. Equal networks give equal bytes.

    Args:
        saved: The network (`sqtune.train.checkpoint.load_network`).
        layers: Its codes and scales by parameter name (`load_codes`).

    Raises:
        ExportError: Its low-bit activations were never trained.
    """
    config, model = saved.config, saved.model
    about = asdict(replace(saved.about, result={}))  # results hold times
    layout = _layout(model, find_layers(model, config.quantizer, config.rules)[0])
    tensors = _tensors(layout, layers)
    clipping = saved.quantization.state_dict()["activations"].get("layers", {})
    if clipping:
        tensors["inputs"] = _clipping_points(clipping)
    metadata = {
        "format": FORMAT,
        "sqtune": __version__,
        "config": json.dumps(config.nested(), sort_keys=True, separators=(",", ":")),
        "about": json.dumps(about, sort_keys=True, separators=(",", ":")),
        "layout": layout.sha256(),
        "sha256": NO_SHA256,
    }
    data = metadata_in_order(save(tensors, metadata))
    return data.replace(_field(NO_SHA256), _field(hashlib.sha256(data).hexdigest()), 1)


def _tensors(layout: _Layout, frozen: Mapping[str, FrozenLayer]) -> dict[str, Tensor]:
    tensors = {f"state.{name}": tensor.cpu().contiguous() for name, tensor in layout.others.items()}
    codes = [pack(frozen[x.name].codes.cpu(), x.quantizer) for x in layout.layers]
    tensors["codes"] = _joined(codes, torch.uint8)
    tensors["scales"] = _joined([frozen[x.name].scale_O.cpu() for x in layout.layers])
    tensors["floats"] = _joined([tensor.cpu().flatten() for tensor in layout.floats.values()])
    return {name: tensor for name, tensor in tensors.items() if tensor.numel()}


def _joined(parts: list[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.cat(parts).to(dtype) if parts else torch.empty(0, dtype=dtype)


def _clipping_points(layers: Mapping[str, Mapping[str, Any]]) -> Tensor:
    for name, layer in layers.items():
        if not layer["started"]:
            raise ExportError(
                f"{name}: its low-bit inputs have no clipping point, since the network never saw "
                "an image. Train it first."
            )
    return torch.tensor([[float(layer[key]) for key in CLIPPING] for layer in layers.values()])


def _field(sha256: str) -> bytes:
    return f'"sha256":"{sha256}"'.encode()


def load_torch(path: Path, *, run_factory: bool = False) -> TrainedNetwork:
    """Read a file that holds what `torch_bytes` returned. Executes nothing from it.

    Args:
        path: The file.
        run_factory: Whether the code that it names may be run, where a factory built the network.

    Raises:
        ExportError: It cannot be read, is damaged, or is another kind of file.
        ConfigError: The factory is not there, or was not to be run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}. Give another path.") from error
    return network_of(data, str(path), run_factory=run_factory)


def network_of(data: bytes, place: str, *, run_factory: bool = False) -> TrainedNetwork:
    """Return the network that `torch_bytes` was given.

    Args:
        data: What it returned.
        place: Where they come from, for messages.
        run_factory: Whether the code that they name may be run, where a factory built the network.

    Raises:
        ExportError: They are damaged, or of another kind of file.
        ConfigError: The factory is not there, or was not to be run.
    """
    metadata = _metadata(data, place)
    if hashlib.sha256(_without_sha256(metadata, data)).hexdigest() != metadata["sha256"]:
        raise ExportError(
            f"{place} is damaged: its checksum is not the one that was written into it. "
            "Copy or export it anew."
        )
    try:
        config = TrialConfig.model_validate_json(metadata["config"])
        refuse_unasked(config.network, place, run_factory=run_factory)
        return _network(config, metadata, load_tensors(data))
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ExportError(
            f"{place} (made by sqtune {metadata.get('sqtune')}) cannot be loaded by sqtune "
            f"{__version__}: {_reason(error)}. Export it anew, with this version."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{error.args[0] if isinstance(error, KeyError) else error}".partition("\n")[0]


def _metadata(data: bytes, place: str) -> dict[str, Any]:
    """Return the metadata of a file that says it is one of ours."""
    try:
        load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ExportError(
            f"{place} is damaged or no safetensors file: {_reason(error)}. Copy or export it anew."
        ) from error
    metadata: dict[str, Any] = header.get("__metadata__") or {}
    if metadata.get("format") != FORMAT or "sha256" not in metadata:
        raise ExportError(
            f"{place} is a safetensors file, but none that sqtune export --form torch of version "
            f"{__version__} writes (format {metadata.get('format')!r}, not {FORMAT!r})."
        )
    return metadata


def _without_sha256(metadata: Mapping[str, str], data: bytes) -> bytes:
    return data.replace(_field(metadata["sha256"]), _field(NO_SHA256), 1)


def _network(
    config: TrialConfig, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> TrainedNetwork:
    about = _ABOUT.validate_json(metadata["about"])
    with torch.random.fork_rng(devices=[]):
        model = build(config.network, about.num_channels, len(about.classes), about.image_size)
    layers, assigned = find_layers(model, config.quantizer, config.rules)
    layout = _layout(model, layers)
    if layout.sha256() != metadata["layout"]:
        raise NetworkError(f"{config.network} has other layers here")
    _fill(layout, tensors)
    if config.activations is None:
        return TrainedNetwork(model, config, about)
    inputs = LowBitActivations(model, assigned, config.activations)
    points = tensors.get("inputs", torch.empty(0, len(CLIPPING)))
    rows = dict(zip(inputs.quantizers, points, strict=True))
    state = {
        name: {"started": True, **dict(zip(CLIPPING, row, strict=True))}
        for name, row in rows.items()
    }
    inputs.load_state_dict({"trained": True, "layers": state})
    inputs.stay_on()
    return TrainedNetwork(model, config, about, inputs.quantizers.values())


@torch.no_grad()
def _fill(layout: _Layout, tensors: Mapping[str, Tensor]) -> None:
    """Give a network's own tensors the values in the file."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise NetworkError("it holds numbers that are not finite (NaN or infinite)")
    for name, tensor in layout.others.items():
        tensor.copy_(tensors[f"state.{name}"])
    sizes = [tensor.numel() for tensor in layout.floats.values()]
    parts = _parts(tensors.get("floats"), sizes, "floats")
    for tensor, part in zip(layout.floats.values(), parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
    layers = layout.layers
    sizes = [packed_bytes(layer.weight.numel(), layer.quantizer) for layer in layers]
    codes = _parts(tensors.get("codes"), sizes, "codes")
    scales = _parts(tensors.get("scales"), [layer.num_rows for layer in layers], "scales")
    for layer, packed, scale_O in zip(layers, codes, scales, strict=True):
        layer.weight.copy_(_frozen(layer, packed, scale_O).values())


def _frozen(layer: Layer, packed: Tensor, scale_O: Tensor) -> FrozenLayer:
    codes = unpack(packed, layer.weight.numel(), layer.quantizer).view(layer.weight.shape)
    return FrozenLayer(codes, scale_O, _offset(layer.quantizer), layer.groups)


def _offset(quantizer: Quantizer) -> float:
    return grid_of(quantizer).offset if isinstance(quantizer, Uniform | LearnedUniform) else 0.0


def _parts(whole: Tensor | None, sizes: list[int], what: str) -> list[Tensor]:
    """Cut a tensor into parts of known sizes."""
    found = 0 if whole is None else whole.numel()
    if found != sum(sizes):
        raise QuantizationError(f"{found} {what} where the network has {sum(sizes)}")
    return [] if whole is None else list(whole.split(sizes))

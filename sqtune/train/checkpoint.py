"""A trained network on disk: float weights, packed codes and its configuration; no pickle.

FOLDER/weights.safetensors   the state_dict with latent (float) weights
FOLDER/codes.safetensors     per quantized weight: packed codes (uint8) and scales; learned steps
                             and clipping points, where there are any
FOLDER/layers.safetensors    what happened to each layer (`sqtune.train.history`)
FOLDER/network.json          the trial's configuration, class names, normalisation, results, which
                             code of others builds the network, if any, and the checksums of weights
                             and codes
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sqtune.config.trial import TrialConfig
from sqtune.errors import StoreError, WriteError
from sqtune.networks import build
from sqtune.networks.by_factory import code_of, refuse_unasked
from sqtune.quant import FrozenLayer, StochasticQuantization, pack, unpack
from sqtune.train.history import LayerHistory

WEIGHTS, CODES, ABOUT = "weights.safetensors", "codes.safetensors", "network.json"
ANEW = "Take a whole copy of a folder that sqtune wrote, or train the network again."


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a trained network beside its weights.

    Attributes:
        classes: Class names, one per output.
        num_channels: Channels of the input images.
        image_size: Height and width of the input images.
        mean: Input normalisation, per channel, of values in 0..1.
        std: Likewise.
        data_fingerprint: sha256 of the images and their split.
        result: The last epoch's results.
    """

    classes: tuple[str, ...]
    num_channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data_fingerprint: str
    result: dict[str, Any]


_ABOUT = TypeAdapter(About)


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """A network read back: its latent (float) weights, and how to quantize them.

    Attributes:
        config: The trial's configuration.
        about: What else is known of it.
        model: The network with its latent weights.
        quantization: `quantization.quantized()` gives it the weights that were evaluated,
            `quantization.freeze()` makes them permanent.
        same_code: Whether the code of others that builds the network, if any, is as it was.
    """

    config: TrialConfig
    about: About
    model: nn.Module
    quantization: StochasticQuantization
    same_code: bool = True


def quantization_of(
    model: nn.Module, config: TrialConfig, generator: torch.Generator | None = None
) -> StochasticQuantization:
    """Return the guest that a configuration describes."""
    return StochasticQuantization(
        model,
        config.quantizer,
        config.schedule,
        selection=config.selection,
        generator=generator,
        rules=config.rules,
        activations=config.activations,
    )


def save_network(
    folder: Path,
    config: TrialConfig,
    about: About,
    model: nn.Module,
    quantization: StochasticQuantization | None = None,
    history: LayerHistory | None = None,
) -> None:
    """Write a network, with its latent weights, as a whole or not at all.

    Replaces what an earlier run of the same trial left there.

    Args:
        folder: Where to.
        config: What was trained.
        about: What else is known of it.
        model: The network, outside of any block.
        quantization: The guest that trained it; a new one where nothing was learned beside weights.
        history: What happened to its layers.

    Raises:
        WriteError: It cannot be written there.
    """
    try:
        guest = quantization or quantization_of(model, config)
        _save_whole(folder, config, about, model, guest, history)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(_partial(folder), ignore_errors=True)
        raise WriteError(
            f"the network cannot be written to {folder}: {error}. Make room, and give the same "
            "command again."
        ) from error


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{os.getpid()}.part")


def _save_whole(
    folder: Path,
    config: TrialConfig,
    about: About,
    model: nn.Module,
    quantization: StochasticQuantization,
    history: LayerHistory | None,
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    (partial / WEIGHTS).write_bytes(save(state))  # save_file would keep others from reading it
    _save_codes(partial / CODES, quantization)
    (history or LayerHistory()).save(partial)
    content = {
        "config": config.nested(),
        "about": asdict(about),
        "code": code_of(config.network),
        "sha256": {name: _sha256(partial / name) for name in (WEIGHTS, CODES)},
    }
    (partial / ABOUT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _save_codes(path: Path, quantization: StochasticQuantization) -> None:
    """Write the integer codes, packed, the scales and whatever else was learned."""
    layers, quantizers = quantization.codes(), quantization.quantizers
    tensors = {name: value.cpu() for name, value in _learned(quantization).items()}
    for name, layer in layers.items():
        tensors[f"{name}.codes"] = pack(layer.codes, quantizers[name]).cpu()
        tensors[f"{name}.scale"] = layer.scale_O.cpu().clone()
    metadata = {
        "quantizers": json.dumps({name: asdict(each) for name, each in quantizers.items()}),
        "shapes": json.dumps({name: list(layer.codes.shape) for name, layer in layers.items()}),
        "offsets": json.dumps({name: layer.offset for name, layer in layers.items()}),
        "groups": json.dumps({name: layer.groups for name, layer in layers.items()}),
    }
    path.write_bytes(metadata_in_order(save(tensors, metadata)))


def metadata_in_order(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted: equal networks have equal files."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[end:]


def load_network(folder: Path, *, run_factory: bool = True) -> SavedNetwork:
    """Read a network that `save_network` wrote. Executes nothing from the files.

    Args:
        folder: Where it was written.
        run_factory: Whether the code that the files name may be run, where a factory built it.

    Raises:
        StoreError: A file is missing or damaged.
        ConfigError: The factory is not there, or was not to be run.
    """
    try:
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        config = TrialConfig.model_validate_json(json.dumps(content["config"]))
        about = _ABOUT.validate_python(content["about"])
        refuse_unasked(config.network, str(folder), run_factory=run_factory)
        with torch.random.fork_rng(devices=[]):
            model = build(config.network, about.num_channels, len(about.classes), about.image_size)
        model.load_state_dict(load_weights(folder))
        quantization = quantization_of(model, config)
        if _learned(quantization):
            _check_sha256(folder, CODES, content)
            _take_up(quantization, load_file(folder / CODES))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ValidationError) as error:
        raise StoreError(f"{folder} does not hold a whole network: {error}. {ANEW}") from error
    except SafetensorError as error:
        raise StoreError(f"{folder / CODES} is damaged: {error}. {ANEW}") from error
    model.eval()
    same_code = content.get("code") == code_of(config.network)
    return SavedNetwork(config, about, model, quantization, same_code)


def _learned(quantization: StochasticQuantization) -> dict[str, Tensor]:
    """Return learned steps and clipping points, by names of their own."""
    state = quantization.state_dict()
    tensors = {f"step/{name}": step_O for name, step_O in state["steps"].items()}
    for name, layer in state["activations"].get("layers", {}).items():
        for key, value in layer.items():
            if isinstance(value, Tensor):
                tensors[f"activation/{name}/{key}"] = value
    return tensors


def _take_up(quantization: StochasticQuantization, tensors: Mapping[str, Tensor]) -> None:
    """Give a guest what `_learned` returned of a trained one."""
    state = quantization.state_dict()
    steps = {name: tensors[f"step/{name}"] for name in state["steps"]}
    layers = {
        name: {
            key: tensors[f"activation/{name}/{key}"] if isinstance(value, Tensor) else True
            for key, value in layer.items()
        }
        for name, layer in state["activations"].get("layers", {}).items()
    }
    activations = {"trained": True, "layers": layers} if layers else {}
    quantization.load_state_dict(
        {**state, "started": True, "steps": steps, "activations": activations}
    )


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read the latent (float) weights of a saved network, without building it.

    Raises:
        StoreError: A file is missing or damaged.
    """
    try:
        _check_sha256(folder, WEIGHTS, json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        return load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} does not hold a whole network: {error}. {ANEW}") from error
    except SafetensorError as error:
        raise StoreError(f"{folder / WEIGHTS} is damaged: {error}. {ANEW}") from error


def load_codes(folder: Path) -> dict[str, FrozenLayer]:
    """Read the integer codes and scales of a saved network, by parameter name.

    Raises:
        StoreError: A file is missing or damaged.
    """
    quantizers = load_network(folder).quantization.quantizers
    layers = {}
    try:
        _check_sha256(folder, CODES, json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        with safe_open(folder / CODES, framework="pt") as file:
            metadata = file.metadata()
            offsets, groups = (json.loads(metadata[key]) for key in ("offsets", "groups"))
            for name, shape in json.loads(metadata["shapes"]).items():
                num_codes = torch.Size(shape).numel()
                codes = unpack(file.get_tensor(f"{name}.codes"), num_codes, quantizers[name])
                scale_O = file.get_tensor(f"{name}.scale")
                layers[name] = FrozenLayer(
                    codes.reshape(shape), scale_O, offsets[name], groups[name]
                )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise StoreError(f"{folder / CODES} is missing or damaged: {error}. {ANEW}") from error
    return layers


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sha256(folder: Path, name: str, content: dict[str, Any]) -> None:
    if _sha256(folder / name) != content["sha256"][name]:
        why = f"its checksum is not the one in {ABOUT}"
        raise StoreError(f"{folder / name} is damaged: {why}. {ANEW}")

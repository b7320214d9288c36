"""Weights to start from: read without executing anything, put into a network key by key.

Three ways lead here, all through `start: {weights: PATH, fresh: [PATTERN, ...]}`:

- the paper's fine-tune scheme: `sqtune train --set trial.quantizer.name=float --out float-net`,
  then `--set trial.start.weights=float-net` with any ratio schedule;
- any network of sqtune's with a state_dict that someone else's training saved;
- a torchvision model (`network: {name: torchvision, model: ...}`) with its own weights file, and
  `fresh: [fc]`, or what its classifier is called, where the classes are others.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sqtune.config.training import Start
from sqtune.errors import StoreError
from sqtune.files import expanded
from sqtune.quant.rules import matches
from sqtune.train.checkpoint import WEIGHTS, load_weights

FIELD = "trial.start.weights"
WRAPPERS = ("state_dict", "model")  # keys under which checkpoints hold a state_dict
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before all names
SHOWN = 3  # keys in a message


def load_start(model: nn.Module, start: Start) -> None:
    """Give a model with fresh weights those of `start`, except for its `fresh` modules.

    Raises:
        StoreError: The weights are missing, unreadable or do not fit, or a pattern matches nothing.
    """
    state = read_weights(expanded(start.weights, FIELD), FIELD)
    _check_patterns(start.fresh, {_module(key) for key in (*model.state_dict(), *state)})

    def wanted(key: str) -> bool:
        return not any(matches(pattern, _module(key)) for pattern in start.fresh)

    kept = {key: value for key, value in model.state_dict().items() if not wanted(key)}
    taken = {key: value for key, value in state.items() if wanted(key)}
    put_weights(model, {**taken, **kept}, f"{FIELD}: {start.weights}", fresh=True)


def read_weights(path: Path, field: str) -> dict[str, Tensor]:
    """Read a state_dict from a folder that `save_network` wrote, or from a file.

    Args:
        path: The folder, or a .safetensors, .pt or .pth file. A checkpoint that holds the
            state_dict under "state_dict" or "model" is unwrapped, and the prefix that DataParallel
            puts before every name is taken away.
        field: Where the path stands in the configuration, for messages.

    Raises:
        StoreError: It is missing, damaged or something else. Nothing in it is executed.
    """
    if path.is_dir():
        try:
            return load_weights(path)
        except StoreError as error:
            raise StoreError(f"{field}: {error}") from error
    place = f"{field}: {path}"
    if not path.exists():
        raise StoreError(f"{place} does not exist. Give a folder that sqtune wrote, or a file.")
    match path.suffix:
        case ".safetensors":
            try:
                content: Any = load_file(path)
            except (SafetensorError, OSError) as error:
                raise StoreError(
                    f"{place} is damaged or no safetensors file: {error}. Copy or save it anew."
                ) from error
        case ".pt" | ".pth":
            content = _load_pickle_free(path, place)
        case _:
            raise StoreError(
                f"{place} is not a folder that sqtune wrote, nor a .safetensors, .pt or .pth file. "
                "Give one of them."
            )
    state = _unwrapped(content)
    named = all(isinstance(key, str) for key in state)
    if not state or not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise StoreError(
            f"{place} holds no state_dict (names and tensors). "
            "Save it anew: torch.save(model.state_dict(), PATH)."
        )
    return _without_prefix(state)


def fingerprint(path: Path) -> str:
    """Return the sha256 of a weights file, or of the weights in a folder."""
    with (path / WEIGHTS if path.is_dir() else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_pickle_free(path: Path, place: str) -> Any:
    """Read tensors and plain containers only, whatever else the file would do."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StoreError(
            f"{place} holds more than tensors and plain data, or is damaged; nothing in it was "
            "executed. Save it anew: torch.save(model.state_dict(), PATH)."
        ) from error
    except Exception as error:  # a damaged file can be anything to torch's readers
        raise StoreError(
            f"{place} is damaged or was not saved by torch: {error}. Copy or save it anew."
        ) from error


def _unwrapped(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    inside = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    return dict(inside[0] if len(inside) == 1 else content)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def put_weights(
    model: nn.Module, state: Mapping[str, Tensor], place: str, *, fresh: bool = False
) -> None:
    """Copy a state_dict into a model, all of it or nothing.

    Batch norm's count of batches may be missing, as in files of old versions of torch: nothing
    depends on it.

    Args:
        model: Its parameters keep their identity, device and dtype.
        state: Tensors by name.
        place: What messages start with.
        fresh: Whether modules may be left out with `start.fresh`, for the remedy.

    Raises:
        StoreError: Keys are missing or unexpected, or shapes differ.
    """
    own = model.state_dict()
    for key, value in state.items():
        if key in own and own[key].is_floating_point() != value.is_floating_point():
            raise StoreError(
                f"{place}: {key} is {value.dtype} there, {own[key].dtype} in the network. Give "
                "float weights."
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise StoreError(
                f"{place}: {key} holds numbers that are not finite (NaN or infinite). Give weights "
                "of a training that did not diverge."
            )
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = {
        key: f"{key} ({_shape(state[key])} there, {_shape(own[key])} here)"
        for key in state
        if key in own and state[key].shape != own[key].shape
    }
    findings = [
        f"{len(keys)} {what}: {', '.join(keys[:SHOWN])}{' ...' if len(keys) > SHOWN else ''}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", list(shapes.values())),
        )
        if keys
    ]
    if findings:
        remedy = "Take the network that these weights were trained with."
        if fresh:
            modules = sorted({_module(key) for key in (*missing, *unexpected, *shapes)})
            patterns = ", ".join(modules[:SHOWN]) + (", ..." if len(modules) > SHOWN else "")
            remedy = f"{remedy[:-1]}, or leave modules out: trial.start.fresh=[{patterns}]."
        raise StoreError(f"{place} does not fit the network; {'; '.join(findings)}. {remedy}")
    model.load_state_dict(dict(state), strict=False)


def _check_patterns(patterns: Sequence[str], modules: set[str]) -> None:
    names = sorted(modules)
    for pattern in patterns:
        if any(matches(pattern, name) for name in names):
            continue
        raise StoreError(
            f"trial.start.fresh: {pattern!r} matches no module. The modules with weights are: "
            f"{', '.join(names)}."
        )


def _module(key: str) -> str:
    return key.rpartition(".")[0]


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "one number"

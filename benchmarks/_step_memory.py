"""Memory of Stochastic Quantization: what the object holds, and what entering hybrid() takes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _methods import Runner
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from sqtune.quant import quantizable_weights


def weight_bytes(runner: Runner) -> int:
    """Return the bytes of the weights that are quantized."""
    return sum(weight.nbytes for weight in quantizable_weights(runner.model).values())


def held_bytes(runner: Runner) -> int:
    """Return the bytes of all tensors a StochasticQuantization holds beside the model's own."""
    own = {*runner.model.parameters(), *runner.model.buffers()}
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors(runner.quantization, set())
    }
    return sum(size for pointer, size in held.items() if pointer not in known)


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors below a value: in containers, attributes and slots, not in modules."""
    if id(value) in seen or isinstance(value, nn.Module | type | str | bytes):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
        return
    inner: list[Any] = list(getattr(value, "__dict__", {}).values())
    slots = [slot for kind in type(value).__mro__ for slot in getattr(kind, "__slots__", ())]
    inner += [getattr(value, slot) for slot in slots if hasattr(value, slot)]
    if isinstance(value, Mapping):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, Sequence | set | frozenset):
        inner += value
    for one in inner:
        yield from _tensors(one, seen)


def entry_peaks(runners: Sequence[Runner], device: torch.device) -> dict[str, int]:
    """Return, by method, the bytes that entering hybrid() takes at its peak above those before.

    Each method must have entered once: buffers that stay count as held, not as taken here.
    """
    if device.type == "cuda":
        return {runner.method.name: _cuda_peak(runner, device) for runner in runners}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for runner in runners:
            block = runner.hybrid()
            with record_function(f"enter {runner.method.name}"):
                block.__enter__()
            block.__exit__(None, None, None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    )
    blocks = {event["name"]: event for event in events if event["name"].startswith("enter ")}
    peaks = {}
    for runner in runners:
        block = blocks[f"enter {runner.method.name}"]
        now = peak = 0
        for at, change in changes:
            if block["ts"] <= at <= block["ts"] + block["dur"]:
                now += change
                peak = max(peak, now)
        peaks[runner.method.name] = peak
    return peaks


def _cuda_peak(runner: Runner, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with runner.hybrid():
        return torch.cuda.max_memory_allocated(device) - before

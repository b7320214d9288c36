"""A GPU's memory: how much of it a process may take, what it took, and whether it ran out."""

from __future__ import annotations

import gc
import re
from typing import Any

import torch

SHORTAGES = re.compile(
    r"(CUDA|HIP)( error:)? out of memory|CU(BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED", re.I
)


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that a GPU's memory was not enough.

    >>> is_shortage(torch.OutOfMemoryError("...")), is_shortage(RuntimeError("shapes differ"))
    (True, False)
    >>> is_shortage(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    True
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(SHORTAGES.search(str(error)))


def limit_memory(device: str, gpus: float) -> None:
    """Let torch take no more of a GPU's memory than its share, and count its peak from here.

    A training that takes more than that fails itself instead of its neighbours.

    Args:
        device: "cuda" or "cuda:N"; nothing is done for another.
        gpus: GPUs that this process was given.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(gpus, 1.0) or 1.0, _index(device))
        torch.cuda.reset_peak_memory_stats(device)


def taken(device: str) -> dict[str, Any]:
    """Return the GPU's name (`gpu`), its memory (`total_bytes`) and what torch took at its peak.

    That is `peak_bytes`, without what the driver takes; of another device nothing.
    """
    if torch.device(device).type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "total_bytes": properties.total_memory,
        "peak_bytes": torch.cuda.max_memory_reserved(device),
    }


def release_memory(device: str) -> None:
    """Give memory that nothing needs back to the GPU."""
    if torch.device(device).type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _index(device: str) -> int:
    return torch.device(device).index or 0

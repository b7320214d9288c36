"""What memory a worker takes, as far as it can tell itself at no cost."""

from __future__ import annotations

import os
from pathlib import Path


def memory_taken(device: str) -> dict[str, int]:
    """Return what this process takes now, in bytes; what it cannot tell is left out.

    That is `resident_bytes`, some of which it shares with other processes (libraries, data), and
    without what processes take that read data for it; on a GPU `gpu_bytes`, which torch has
    reserved there, without what the driver takes, and `gpu_total_bytes`, which the GPU has.

    Args:
        device: "cpu" or "cuda", where it trains.
    """
    taken = {}
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        taken["resident_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc
        pass
    if device != "cpu":
        import torch

        if torch.cuda.is_initialized():
            taken["gpu_bytes"] = torch.cuda.memory_reserved(device)
            taken["gpu_total_bytes"] = torch.cuda.get_device_properties(device).total_memory
    return taken

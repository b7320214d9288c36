"""GPUs: what the driver shows, what torch sees, and whether it can compute on them.

python -m sqtune.doctor.gpu      prints what torch sees, as JSON
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from sqtune.doctor.examine import Finding, slow

SECONDS = 100.0  # torch on a slow disk, and a GPU's start
QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
TORCH_ANEW = "Install it anew: torch and torchvision from one source, with matching versions."
INSTALL = "Install a build of torch for CUDA (pytorch.org names one for each driver), or train on "
INSTALL += "CPUs: --set resources.gpus=0."


def look_at_gpus() -> list[Finding]:
    """Compare the GPUs that the driver shows with those that torch computes on."""
    driver, torch = _driver(), _torch()
    if torch is None:
        return [slow("torch", "importing torch", SECONDS)]
    if "problem" in torch:
        return [Finding("torch", "problem", torch["problem"], TORCH_ANEW)]
    built = "without CUDA" if torch["cuda"] is None else f"for CUDA {torch['cuda']}"
    found = [Finding("torch", "ok", f"{torch['version']}, built {built}, can be imported")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    note = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
    if not torch["gpus"]:
        if not driver:
            text = f"none{note}: trials train on CPUs"
            return [*found, Finding("GPUs", "ok", text)]
        text = f"{'; '.join(driver)}: torch sees none{note}: trials train on CPUs"
        could_see = hidden is not None and torch["cuda"] is not None
        remedy = "Unset CUDA_VISIBLE_DEVICES." if could_see else INSTALL
        return [*found, Finding("GPUs", "note", text, remedy)]
    for number, gpu in enumerate(torch["gpus"]):
        memory = f"{gpu['free'] / 2**30:.1f} of {gpu['total'] / 2**30:.1f} GiB free"
        text = f"{gpu['name']}, {memory}{note}"
        if driver:
            text += f", driver {driver[0].rpartition(' ')[2]}"
        if gpu["problem"] is None:
            found.append(Finding(f"GPU {number}", "ok", text))
        else:
            text += f": torch cannot compute on it: {gpu['problem']}"
            found.append(Finding(f"GPU {number}", "problem", text, INSTALL))
    return found


def _driver() -> list[str]:
    """Return "NAME, MEMORY, driver VERSION" of each GPU; none where there is no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(
            [tool, *QUERY], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 2]
    return [f"{name}, {memory}, driver {version}" for name, memory, version in rows]


def _torch() -> dict[str, Any] | None:
    """Return what torch sees, as told by a process of its own: a broken build takes it down.

    None where it has not told in time.
    """
    command = [sys.executable, "-m", "sqtune.doctor.gpu"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"problem": f"torch cannot be imported: {last}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _seen() -> dict[str, Any]:
    import torch

    gpus = []
    for number in range(torch.cuda.device_count()):
        device, name, problem = f"cuda:{number}", f"GPU {number}", None
        try:
            name = torch.cuda.get_device_name(number)
            free, total = torch.cuda.mem_get_info(device)
            torch.ones(8, device=device).sum().item()
        except RuntimeError as error:
            free = total = 0
            problem = str(error).strip().splitlines()[0]
        gpus.append({"name": name, "free": free, "total": total, "problem": problem})
    return {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}


if __name__ == "__main__":
    print(json.dumps(_seen()))

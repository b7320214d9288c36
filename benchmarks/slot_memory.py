"""A slot's peak memory above a bare `import torch`, on digits.

    python benchmarks/slot_memory.py
    python benchmarks/slot_memory.py --trials 4 --set trial.num_epochs=2 --no-save

The claim is on peak RSS, the kernel's own high-water mark (VmHWM): the largest of the worker
processes that trained in a real `sqtune search`, minus the median of plain `import torch`
processes. PSS (shared pages divided among those that share them) and USS (private pages alone) are
reported beside it: for workers the highest of many looks, for the bare process its last state.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from _results import Figure, Pedigree
from _search import SPACE, add_options, finished_trials, overrides, start_search, wait

MOST_ABOVE_TORCH_MB = 300.0
LOOK_SECONDS = 0.1
NUM_BARE = 5
EPOCHS = 5  # memory does not depend on how many
KIB_IN_MB = 1024 / 1e6
BARE = "import sys, torch; print(flush=True); sys.stdin.read()"

Memory = dict[str, float]  # MB by "RSS peak", "PSS" and "USS"; those two only where readable


def memory(pid: int) -> Memory:
    """Return what a process takes, in MB (10**6 bytes).

    Raises:
        OSError: The process is gone.
        KeyError: It is about to be.
    """
    status = _fields(Path(f"/proc/{pid}/status"))
    found = {"RSS peak": float(status["VmHWM"].split()[0]) * KIB_IN_MB}
    try:
        rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
        kib = {key: float(value.split()[0]) for key, value in rollup.items() if "kB" in value}
        found["PSS"] = kib["Pss"] * KIB_IN_MB
        found["USS"] = (kib["Private_Clean"] + kib["Private_Dirty"]) * KIB_IN_MB
    except (OSError, KeyError):
        pass
    return found


def _fields(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition(":") for line in lines)}


def bare_torch() -> Memory:
    """Return the memory of a process that imported torch and nothing else."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return memory(process.pid)


def watch(process: subprocess.Popen[bytes]) -> dict[int, Memory]:
    """Return the peaks of a search's Ray workers by process id, looked at until it ends."""
    peaks: dict[int, Memory] = {}
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            children = root.children(recursive=True)
        except psutil.NoSuchProcess:
            break
        for child in children:
            try:
                if not child.cmdline()[0].startswith("ray::"):
                    continue
                now = memory(child.pid)
            except (psutil.Error, OSError, KeyError, IndexError):
                continue
            before = peaks.setdefault(child.pid, now)
            peaks[child.pid] = {key: max(before.get(key, 0.0), now[key]) for key in now}
        time.sleep(LOOK_SECONDS)
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, trials=12)
    options = parser.parse_args()
    options.set = [f"trial.num_epochs={EPOCHS}", *options.set]
    from sqtune.config import load_space

    changes = overrides(options)
    space = load_space(SPACE, changes)
    pedigree = Pedigree()
    bare = [bare_torch() for _ in range(NUM_BARE)]
    with tempfile.TemporaryDirectory(prefix="sqtune-benchmark-") as folder:
        store, log = Path(folder) / "store", Path(folder) / "search.log"
        process = start_search(store, changes, log)
        peaks = watch(process)
        wait(process, log)
        records = finished_trials(store, space.search.num_trials)
    trained = {record.facts["process"] for record in records}
    if not trained <= peaks.keys():
        sys.exit(f"{len(trained - peaks.keys())} of {len(trained)} workers were not seen alive")
    slots = [peaks[pid] for pid in sorted(trained)]
    pedigree.report(
        "slot_memory",
        _figures(slots, bare),
        settings={
            "space": SPACE.name,
            "set": changes,
            "slots": space.search.max_concurrent,
            "cpus": len(os.sched_getaffinity(0)),
        },
        seeds={"search.seed": options.seed, "trial.seed": records[0].config.seed},
        notes=[
            "the claim is on peak RSS (VmHWM), which counts shared libraries in full on both sides",
            f"MB are 10**6 bytes; {len(slots)} worker processes trained {len(records)} trials",
        ],
        save=not options.no_save,
    )


def _figures(slots: list[Memory], bare: list[Memory]) -> list[Figure]:
    figures = []
    for kind in ("RSS peak", "PSS", "USS"):
        if not all(kind in one for one in [*slots, *bare]):
            continue
        base = [one[kind] for one in bare]
        above = [one[kind] - statistics.median(base) for one in slots]
        bound = MOST_ABOVE_TORCH_MB if kind == "RSS peak" else None
        figures += [
            Figure(f"slot above import torch, {kind}", "MB", above, bound),
            Figure(f"slot, {kind}", "MB", [one[kind] for one in slots]),
            Figure(f"bare import torch, {kind}", "MB", base),
        ]
    return figures


if __name__ == "__main__":
    main()

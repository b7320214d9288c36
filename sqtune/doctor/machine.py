"""CPUs, memory, disks and compilers: what this machine has, and what a container leaves of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqtune.doctor.examine import Finding
from sqtune.files import folder_of, is_url

GIB = 2**30
BASE_BYTES = 1.5 * GIB  # Ray, the driver and MLflow
SLOT_BYTES = 0.75 * GIB  # a trial on a CPU: torch, and some 230 MB on digits
LEAST_FREE_BYTES, LOW_FREE_BYTES = 100 * 2**20, GIB
OBJECTS_BYTES = 128 * 2**20  # what Ray's object store wants of /dev/shm
FULLEST = 0.95  # Ray refuses to use a disk that is fuller
CGROUPS = Path("/sys/fs/cgroup")


def look_at_cpus() -> list[Finding]:
    """Count the CPUs that this process may use, and the time that a container leaves of them."""
    there, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    text = f"{usable}" if usable == there else f"{usable} of {there} (the others are not for us)"
    quota = cpu_quota(CGROUPS, _groups())
    if quota is None or quota >= usable:
        return [Finding("CPUs", "ok", f"{text}: as many trials at once, one CPU each")]
    text += f", of which the container may use the time of {quota:g}"
    at_once = max(1, int(quota))
    remedy = f"Give --concurrent {at_once}: more at once would wait for each other."
    return [Finding("CPUs", "note", text, remedy)]


def look_at_memory() -> list[Finding]:
    """Compare the memory that is free with what trials take."""
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (1024 * int(facts[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    limit = memory_limit(CGROUPS, _groups())
    text = f"{_gib(free)} of {_gib(total)} free"
    if limit is not None and limit[0] < total:
        free = min(free, limit[0] - limit[1])
        text = f"{_gib(free)} of the container's {_gib(limit[0])} free"
    slots = len(os.sched_getaffinity(0))
    room = int((free - BASE_BYTES) / SLOT_BYTES)
    if room >= slots:
        return [Finding("memory", "ok", text)]
    text += f"; {slots} trials at once on CPUs take about {_gib(BASE_BYTES + slots * SLOT_BYTES)}"
    if room < 1:
        return [Finding("memory", "note", text, "End other processes, or take another machine.")]
    return [Finding("memory", "note", text, f"Give --concurrent {room}.")]


def look_at_disks(store: str) -> list[Finding]:
    """Look for room where the store or its copies lie, and where Ray and others keep files."""
    if is_url(store):
        cache = os.environ.get("XDG_CACHE_HOME")
        folder = Path(cache) if cache else Path.home()
        found = [_disk("copies", _existing(folder), "Make room, or set XDG_CACHE_HOME.")]
    else:
        remedy = "Make room, or give --store another folder."
        found = [_disk("store's disk", _existing(folder_of(store).absolute()), remedy)]
    temporary = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    found.append(_disk("temporary", _existing(temporary), "Make room, or set RAY_TMPDIR."))
    shared = Path("/dev/shm")  # Ray's own choice
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        text = f"{_gib(free)} free in {shared}"
        if free >= OBJECTS_BYTES:
            found.append(Finding("shared", "ok", text))
        else:
            remedy = "Give the container more, such as --shm-size=1g: Ray is slower without."
            found.append(Finding("shared", "note", text, remedy))
    return found


def look_at_compilers() -> list[Finding]:
    """Look for the compilers that the C form is proven with."""
    from sqtune.deploy.c.host import COMPILERS
    from sqtune.deploy.c.target import COMPILER, EMULATOR

    here = next(filter(None, map(shutil.which, COMPILERS)), None)
    if here is None:
        text = "none: sqtune export --form c proves what it writes by running it"
        found = [Finding("C compiler", "note", text, "Where you need it: install gcc or clang.")]
    else:
        found = [Finding("C compiler", "ok", _first_line(here, "--version"))]
    missing = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        text = f"{' and '.join(missing)} not installed; only make bench asks for it"
        found.append(Finding("Arm tools", "ok", text))
    else:
        found.append(Finding("Arm tools", "ok", _first_line(COMPILER, "--version")))
    return found


def cpu_quota(root: Path, groups: dict[str, str]) -> float | None:
    """Return how many CPUs' time the control groups leave; None where they limit nothing.

    Args:
        root: Where control groups are mounted.
        groups: This process's group, by controller; "" stands for version 2.
    """
    quotas = []
    for folder in _folders(root, groups.get("")):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdigit():
            quotas.append(int(quota) / int(period))
    for folder in _folders(root / "cpu", groups.get("cpu")):
        quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(root: Path, groups: dict[str, str]) -> tuple[int, int] | None:
    """Return the bytes that the control groups allow, and those in use; None without a limit.

    Of several limits the one that leaves least. Copies of files, which the kernel drops where
    memory is asked for, are not in use.

    Args:
        root: Where control groups are mounted.
        groups: This process's group, by controller; "" stands for version 2.
    """
    one = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    two = ("memory.max", "memory.current", "inactive_file")
    found = [(folder, two) for folder in _folders(root, groups.get(""))]
    found += [(folder, one) for folder in _folders(root / "memory", groups.get("memory"))]
    limits = []
    for folder, (limit_file, used_file, copies) in found:
        limit, used = _read(folder / limit_file), _read(folder / used_file)
        if limit.isdigit() and used.isdigit():
            lines = map(str.split, _read(folder / "memory.stat").splitlines())
            dropped = sum(int(value) for key, value in lines if key == copies)
            limits.append((int(limit), max(0, int(used) - dropped)))
    return min(limits, key=lambda each: each[0] - each[1], default=None)


def _groups() -> dict[str, str]:
    """Return this process's control groups by controller."""
    found: dict[str, str] = {}
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def _folders(root: Path, path: str | None) -> Iterator[Path]:
    """Yield a group's folder and those above it; in a container the mount is the group itself."""
    yield root
    for part in Path((path or "/").lstrip("/")).parts:
        root = root / part
        yield root


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _disk(subject: str, folder: Path, remedy: str) -> Finding:
    usage = shutil.disk_usage(folder)
    text = f"{_gib(usage.free)} of {_gib(usage.total)} free in {folder}"
    if usage.free < LEAST_FREE_BYTES:
        return Finding(subject, "problem", text, remedy)
    if usage.free < LOW_FREE_BYTES or (subject == "temporary" and _fullness(usage) > FULLEST):
        return Finding(subject, "note", text, remedy)
    return Finding(subject, "ok", text)


def _fullness(usage: shutil._ntuple_diskusage) -> float:
    return 1 - usage.free / usage.total


def _existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that there is."""
    return next(each for each in (path, *path.parents) if each.exists())


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:,.1f} GiB"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout.strip().splitlines() or ["it does not say its version"])[0]

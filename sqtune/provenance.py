"""Provenance: what a study ran on, stored with it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("sqtune", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scikit-learn")


def provenance() -> dict[str, str]:
    """Return versions, commit and machine, by dotted name."""
    facts = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            facts[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[f"version.{package}"] = "not installed"
    facts["commit"] = commit()
    facts["cpus"] = str(len(os.sched_getaffinity(0)))
    facts["cpu"] = _cpu_name()
    return facts


def commit() -> str:
    """Return the commit of sqtune's own checkout, "+changes" behind it where files differ."""
    here = Path(__file__).resolve().parent
    describe = ["describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
    try:
        # An environment inside somebody else's checkout has that one's commit, not ours.
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        return _git(here, *describe)
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5, check=True
    )
    return answer.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"

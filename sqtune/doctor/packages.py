"""What is installed, against what is asked for, and whether it can be imported."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import sqtune
from sqtune.doctor.examine import Finding, slow
from sqtune.doctor.gpu import TORCH_ANEW
from sqtune.provenance import commit

SHOWN = ("torch", "ray", "optuna", "mlflow", "onnxruntime")
IMPORTED = ("torchvision", "ray.tune", "optuna", "mlflow", "onnx", "onnxruntime")
EXTRAS = {  # what they are for
    "cluster": "sqtune submit, s3:// stores, launchers for AWS and Google Cloud",
    "postgres": "--study-storage postgresql://...",
    "samplers": "search.sampler: cmaes",
}
IMPORT_SECONDS = 100.0


def look_at_python() -> list[Finding]:
    """Compare Python's version with the ones that sqtune asks for."""
    here = f"{platform.python_version()}, {sys.executable}"
    asked = importlib.metadata.metadata("sqtune")["Requires-Python"]
    if platform.python_version() in SpecifierSet(asked):
        return [Finding("Python", "ok", here)]
    remedy = f"Make an environment with Python {asked}."
    return [Finding("Python", "problem", f"{here}; sqtune asks for {asked}", remedy)]


def look_at_versions() -> list[Finding]:
    """Compare what is installed with what sqtune's own metadata ask for, and with the lock file."""
    asked = [Requirement(text) for text in importlib.metadata.requires("sqtune") or ()]
    needed = [each for each in asked if _holds(each, "")]
    wrong = [problem for each in needed if (problem := _problem(each))]
    shown = ", ".join(f"{name} {_version(name)}" for name in SHOWN)
    own = Finding("sqtune", "ok", f"{sqtune.__version__}, commit {commit()}, {_folder()}")
    if wrong:
        remedy = "Install what is asked for: make setup, or pip install --upgrade sqtune."
        return [own, Finding("packages", "problem", "; ".join(wrong), remedy)]
    found = [own, Finding("packages", "ok", f"{len(needed)} as asked for: {shown}")]
    other = list(_other_than_locked(_folder().parent / "requirements.lock"))
    if other:
        text = f"not those that were tested (requirements.lock): {_few(other)}"
        found.append(Finding("lock", "note", text, "make setup installs those."))
    return found


def look_at_imports() -> list[Finding]:
    """Import each library in a process of its own: broken ones crash, or take for ever."""
    with ThreadPoolExecutor() as pool:
        found = list(filter(None, pool.map(_import_problem, IMPORTED)))
    return found or [Finding("imports", "ok", f"{', '.join(IMPORTED)} can be imported")]


def look_at_extras() -> list[Finding]:
    """Tell what is missing for the commands that need more than the rest."""
    asked = [Requirement(text) for text in importlib.metadata.requires("sqtune") or ()]
    found = []
    for extra, purpose in EXTRAS.items():
        of_it = [each for each in asked if _holds(each, extra) and not _holds(each, "")]
        missing = sorted({name for each in of_it for name in _missing(each)})
        if missing:
            text = f"{purpose}: not installed ({_few(missing)})"
            remedy = f"Where you need it: pip install 'sqtune[{extra}]'."
            found.append(Finding(f"[{extra}]", "note", text, remedy))
        else:
            found.append(Finding(f"[{extra}]", "ok", purpose))
    return found


def _folder() -> Path:
    return Path(sqtune.__file__).resolve().parent


def _few(names: list[str]) -> str:
    """Return some names, and how many there are besides.

    >>> _few(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _holds(asked: Requirement, extra: str) -> bool:
    """Tell whether a package is asked for here, with an extra or (of "") without any."""
    return asked.marker is None or asked.marker.evaluate({"extra": extra})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _problem(asked: Requirement) -> str | None:
    """Return why an installed package is not as asked for."""
    version = _version(asked.name)
    if version is None:
        return f"{asked.name} is not installed ({asked.specifier} is asked for)"
    if not asked.specifier.contains(version, prereleases=True):
        return f"{asked.name} {version} is not {asked.specifier}"
    return None


def _missing(asked: Requirement) -> Iterator[str]:
    """Yield the names of what is missing of a package and of its own extras."""
    if _version(asked.name) is None:
        yield asked.name
        return
    for text in importlib.metadata.requires(asked.name) or () if asked.extras else ():
        inner = Requirement(text)
        if not _holds(inner, "") and any(_holds(inner, extra) for extra in asked.extras):
            yield from _missing(Requirement(inner.name))


def _other_than_locked(lock: Path) -> Iterator[str]:
    """Yield what a checkout's lock file has in another version."""
    if not lock.is_file():
        return
    for name, locked in re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE):
        version = _version(canonicalize_name(name))
        if version is not None and version.partition("+")[0] != locked:
            yield f"{name} {version} ({locked})"


def _import_problem(module: str) -> Finding | None:
    """Return what is wrong with a module that is not imported; None where it is."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return slow("imports", f"importing {module}", IMPORT_SECONDS)
    if not done.returncode:
        return None
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    library = module.partition(".")[0]
    remedy = f"Install it anew: pip install --force-reinstall {library}, or make setup."
    if library == "torchvision":
        remedy = TORCH_ANEW
    return Finding("imports", "problem", f"{module} cannot be imported: {last}", remedy)

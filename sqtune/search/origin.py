"""What a worker must have in common with the driver: code, versions and the store."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import platform
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sqtune
from sqtune.files import Files, files_at, is_url
from sqtune.store import Store, file_name

PAUSES = (0.2, 1.0, 0.0)  # seconds; one failure of a shared folder says nothing
PACKAGES = ("torch", "torchvision", "ray", "numpy", "safetensors", "pydantic")


@dataclass(frozen=True, slots=True)
class Origin:
    """What the driver has; a worker that has something else trains nothing.

    Attributes:
        versions: Of Python, of the packages that act on numbers, and of sqtune's code.
        store: The store, a folder or a URL.
        mark: File among its locks that the driver wrote.
        content: What stands in it.
    """

    versions: Mapping[str, str]
    store: str
    mark: str
    content: str


def leave_mark(store: Store, study: str) -> Origin:
    """Write the mark by which workers recognise the store; return what they are to find."""
    mark, content = f"{file_name(study)}.mark", uuid.uuid4().hex
    _locks(store.place).write(mark, content.encode())
    return Origin(dict(versions()), store.place, mark, content)


def remove_mark(origin: Origin) -> None:
    """Remove the mark, unless another driver has written its own there."""
    locks = _locks(origin.store)
    with contextlib.suppress(OSError):
        if locks.read(origin.mark) == origin.content.encode():
            locks.remove(origin.mark)


def _locks(store: str) -> Files:
    return files_at(f"{store}/locks")


def problem(origin: Mapping[str, Any]) -> str | None:
    """Return why this process must not train for a driver; None where it may.

    Args:
        origin: An Origin as plain data, which another version of it may have written.
    """
    here, there = versions(), dict(origin["versions"])
    differing = [
        f"{name} {here.get(name, 'none')} (driver: {there.get(name, 'none')})"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if differing:
        return (
            f"its versions differ from the driver's: {', '.join(differing)}. Install the same on "
            "all nodes, or use one image."
        )
    store, mark = origin["store"], origin["mark"]
    for seconds in PAUSES:
        try:
            locks = _locks(store)
            found = locks.read(mark)
            if found is None:
                reason = f"{mark} is not there"
            else:
                answer = f"{mark}.{uuid.uuid4().hex}"
                locks.write(answer, b"written")
                locks.remove(answer)
                break
        except (OSError, ValueError, ImportError) as error:
            reason = str(error)
        time.sleep(seconds)
    else:
        return _unseen(store, reason)
    right = found == origin["content"].encode()
    return None if right else _unseen(store, "another file lies there")


def _unseen(store: str, reason: str) -> str:
    remedy = "Give --store a folder that all nodes share, mounted at the same path."
    if is_url(store):
        remedy = "Give that node the URL's package, credentials and endpoint, and a way there."
    return f"it does not see the store {store}, or cannot write there: {reason}. {remedy}"


@cache
def versions() -> dict[str, str]:
    """Return, once in a process, the versions that must agree, by name."""
    found = {"python": platform.python_version(), "sqtune's code": code_digest()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def code_digest() -> str:
    """Return a short hash of sqtune's source files, which a version number does not tell apart."""
    folder = Path(sqtune.__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]

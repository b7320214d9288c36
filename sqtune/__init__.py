"""sqtune: finds the most accurate low-bit network that fits a device.

    study = sqtune.search("search_spaces/resnet.yaml", trials=24)
    study.front
    study.best(max_size="20KiB").export("deployed")

`sqtune.open_study` reads a study that was searched before, `sqtune.load` gives a trained network
back in torch. The method alone is in `sqtune.quant`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqtune.api import open_study, search
    from sqtune.deploy.load import load
    from sqtune.errors import SqtuneError
    from sqtune.notebook import Study, Trial

# ONNX Runtime records its use and sends it, unless it is told otherwise before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["SqtuneError", "Study", "Trial", "__version__", "load", "open_study", "search"]

_HOMES = {
    "SqtuneError": "sqtune.errors",
    "Study": "sqtune.notebook",
    "Trial": "sqtune.notebook",
    "load": "sqtune.deploy.load",
    "open_study": "sqtune.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: importing sqtune stays light."""
    if name == "search":
        return import_module("sqtune.search")  # which can be called
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

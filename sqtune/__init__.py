"""sqtune: finds the most accurate low-bit network that fits a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqtune.deploy.load import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` at its first use: importing sqtune stays light."""
    if name == "load":
        from sqtune.deploy.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

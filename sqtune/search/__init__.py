"""The search: propose, execute, record, name the best.

The package can be called, since the public function has its name: `sqtune.search(space)` is
`sqtune.api.search`.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """Passes a call on to `sqtune.api.search`, which lies above this package."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module("sqtune.api").search(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(import_module("sqtune.api").search)

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Callable

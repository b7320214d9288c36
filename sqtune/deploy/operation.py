"""One traced operation, and what there is to lower it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from sqtune.deploy.graph import Floats, Node
from sqtune.errors import ExportError


@dataclass(frozen=True, slots=True)
class Operation:
    """One traced operation and what there is to lower it with.

    Attributes:
        node: The traced node.
        place: Name of the module it comes from.
        batch: torch's symbol for the number of images.
        value: Returns the number of a traced value.
        shape: Returns the shape of a value, by number.
        tensor: Returns the values of a parameter or buffer, None for anything else.
        norm: Returns a batch norm as (factor, shift), in float64.
        add: Adds a node of a kind and returns the number of its value.
    """

    node: fx.Node
    place: str
    batch: str
    value: Callable[[Any], Any]
    shape: Callable[[int], tuple[int, ...]]
    tensor: Callable[[Any], Floats | None]
    norm: Callable[[], tuple[Any, Any]]
    add: Callable[..., int]

    def argument(self, index: int, default: Any = None) -> Any:
        """Return an argument of the call."""
        return self.node.args[index] if index < len(self.node.args) else default

    def input(self) -> int:
        """Return the number of the first argument's value."""
        number: int = self.value(self.argument(0))
        return number

    def result_shape(self) -> tuple[int, ...]:
        """Return the shape of the result; the batch has to stay in front.

        Raises:
            ExportError: It does not.
        """
        result: Any = self.node.meta["val"]
        if result.dim() == 0 or str(result.shape[0]) != self.batch:
            raise self.unsupported("mixes images with each other")
        return tuple(int(size) for size in result.shape[1:])

    def make(
        self, node: type[Node], inputs: tuple[int, ...] | None = None, /, **fields: Any
    ) -> int:
        """Add a node that makes the result."""
        inputs = (self.input(),) if inputs is None else inputs
        return self.add(node, inputs, self.result_shape(), name=self.place, **fields)

    def unsupported(self, what: str = "") -> ExportError:
        """Return the error that names operation and layer."""
        operation = str(self.node.target).removesuffix(".default")
        return ExportError(
            f"{self.place or 'the network'}: {operation} {what or 'is not known to any form'}. "
            "Export takes convolutional networks: convolutions, linear layers, norms, pooling, "
            "sums, concatenation and the usual activation functions."
        )

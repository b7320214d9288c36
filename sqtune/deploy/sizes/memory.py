"""Memory of activations: the block that holds them, for one image, before there is a network.

It is the arena of the C form (`sqtune.deploy.sizes.steps`, `sqtune.deploy.sizes.arena`), for every
form: each value lies in it from the step that makes it to the last that reads it. The input of a
quantized layer takes that layer's bits an element; where something else reads the value too (a sum,
a layer on another grid), the value is there as float32 and its codes beside it for as long as the
layer needs them. Everything else takes float32: sums, means, what is returned. What acts on an
element is done before it is stored, a sum where its first part lay, and what only moves elements
(max-pooling, concatenation) works on codes. Working memory inside of a step is not counted.
"""

from __future__ import annotations

from functools import lru_cache

from sqtune.deploy.sizes.arena import arena
from sqtune.deploy.sizes.steps import FLOAT_BITS, Operation, Step, steps
from sqtune.deploy.sizes.structure import Structure

__all__ = ["FLOAT_BITS", "peak_bytes", "planned"]


@lru_cache(maxsize=4096)
def peak_bytes(net: Structure, input_bits: tuple[int, ...]) -> int:
    """Return the bytes of the block.

    Args:
        net: The network.
        input_bits: Bits of each layer's inputs, in the order of `net.layers`; 32 for float.
    """
    planned_steps, numbers = planned(net, input_bits)
    return arena(planned_steps, numbers, net.outputs).size_bytes


def planned(net: Structure, input_bits: tuple[int, ...]) -> tuple[list[Step], list[int]]:
    """Return the steps of a network and the elements of each value."""
    numbers = list(net.values)
    operations = []
    for operation in net.operations:
        bits = input_bits[operation.label] if operation.kind == "layer" else FLOAT_BITS
        if bits == FLOAT_BITS:
            operations.append(operation)
            continue
        rounded = []
        for number in operation.reads:
            rounded.append(len(numbers))
            numbers.append(numbers[number])
            label = operation.label
            operations.append(Operation("quantize", label, (number,), (rounded[-1],), bits))
        operations.append(Operation("layer", operation.label, tuple(rounded), operation.writes))
    return steps(operations, numbers, net.outputs), numbers

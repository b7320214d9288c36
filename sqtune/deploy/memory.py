"""Memory of activations: the most bytes that are alive at the same time, for one image.

Each value lies in memory from the step that makes it to the last that reads it; element-wise steps,
such as sums, put their result where an input was that nothing reads any more. A value takes the
widest bits that any reader needs: the input of a quantized layer those of that layer's inputs,
anything else (sums, means, what is returned) float32. Batch norm, ReLU and the like act on an
element before it is stored, and what only moves elements (max-pooling, concatenation) needs no more
than its own readers. Working memory inside of a step is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqtune.deploy.recorder import IMAGE
from sqtune.deploy.structure import Structure

FLOAT_BITS = 32
IMAGE_BITS = 8  # as cameras and files have it


@lru_cache(maxsize=4096)
def peak_bytes(net: Structure, input_bits: tuple[int, ...]) -> int:
    """Return the most bytes of values alive at the same time.

    Args:
        net: The network.
        input_bits: Bits of each layer's inputs, in the order of `net.layers`; 32 for float.
    """
    bits = value_bits(net, input_bits)
    sizes = [-(-number * width // 8) for number, width in zip(net.values, bits, strict=True)]
    alive = peak = sizes[IMAGE]
    for step in net.steps:
        made = sum(sizes[number] for number in step.writes)
        shared = 0
        if step.in_place and len(step.writes) == 1:
            number = net.values[step.writes[0]]
            fitting = [sizes[ended] for ended in step.ends if net.values[ended] == number]
            shared = min(max(fitting, default=0), made)
        peak = max(peak, alive + made - shared)
        alive += made - sum(sizes[ended] for ended in step.ends)
    return peak


def value_bits(net: Structure, input_bits: Sequence[int]) -> list[int]:
    """Return the bits of an element of each value."""
    bits = [FLOAT_BITS if number in net.outputs else 0 for number in range(len(net.values))]
    for step in reversed(net.steps):
        if step.layer >= 0:
            needed = input_bits[step.layer]
        elif step.moves:
            needed = max((bits[number] for number in step.writes), default=0)
        else:
            needed = FLOAT_BITS
        for number in step.reads:
            bits[number] = max(bits[number], needed)
    bits[IMAGE] = IMAGE_BITS if bits[IMAGE] <= IMAGE_BITS else FLOAT_BITS
    return bits

"""One block of memory for all values of a network: where each lies, and how large the block is.

A value lies there from the step that makes it to the last that reads it. A step that acts on one
element after the other puts its result where an input lay that nothing reads any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqtune.deploy.sizes.steps import FLOAT_BITS, Step

ALIGNMENT = 4  # bytes: of a float


@dataclass(frozen=True, slots=True)
class Arena:
    """Where values lie.

    Attributes:
        size_bytes: Of the whole block.
        offsets: First byte of each value that is stored.
        bits: Of an element of each value.
        sources: The quantizing operation's label, for each value that is stored as codes.
    """

    size_bytes: int
    offsets: dict[int, int]
    bits: dict[int, int]
    sources: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes that are taken from a step to another, both included."""

    first: int
    last: int
    size: int


def arena(steps: Sequence[Step], numbers: Sequence[int], outputs: Collection[int]) -> Arena:
    """Return an arena for the values of steps.

    Args:
        steps: In order.
        numbers: Elements of each value.
        outputs: Values that stay to the end.
    """
    bits, sources = _formats(steps)
    sizes = {value: _size(numbers[value], width) for value, width in bits.items()}
    last = {number: index for index, step in enumerate(steps) for number in step.reads}
    last.update(dict.fromkeys(outputs, len(steps)))
    buffers: list[list[_Piece]] = []
    buffer_of: dict[int, int] = {}
    for index, step in enumerate(steps):
        for value in step.writes:
            piece = _Piece(index, last.get(value, index), sizes[value])
            under = _replaced(step, value, index, last, numbers, bits)
            if under is None:
                buffer_of[value] = len(buffers)
                buffers.append([piece])
            else:
                buffer_of[value] = buffer_of[under]
                # its place is the input's own as long as this step reads it
                buffers[buffer_of[under]].append(_Piece(index + 1, piece.last, piece.size))
    size_bytes, places = _placed(buffers, len(steps) + 1)
    offsets = {value: places[buffer] for value, buffer in buffer_of.items()}
    return Arena(size_bytes, offsets, bits, sources)


def _formats(steps: Sequence[Step]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the bits of each value and, for codes, which operation rounded them."""
    bits: dict[int, int] = {}
    sources: dict[int, int] = {}
    for step in steps:
        width, source = FLOAT_BITS, None
        if step.last.kind == "quantize":
            width, source = step.last.bits, step.last.label
        elif step.host.kind == "moves" and not step.extras:
            found = {sources.get(number) for number in step.reads}
            if len(found) == 1 and None not in found:
                width, source = bits[step.reads[0]], sources[step.reads[0]]
        for value in step.writes:
            bits[value] = width
            if source is not None:
                sources[value] = source
    return bits, sources


def _size(number: int, bits: int) -> int:
    return -(-number * bits // (8 * ALIGNMENT)) * ALIGNMENT


def _replaced(
    step: Step,
    value: int,
    index: int,
    last: dict[int, int],
    numbers: Sequence[int],
    bits: dict[int, int],
) -> int | None:
    """Return the value in whose place a step can put its result; None without any.

    What the host reads it may read again for a later element, unless it is element-wise itself.
    """
    if len(step.writes) != 1:
        return None
    kept = set() if step.host.kind in ("elements", "quantize") else set(step.host.reads)
    fitting = [
        number
        for number in step.reads
        if number not in kept
        and last[number] == index
        and numbers[number] == numbers[value]
        and bits[number] >= bits[value]
    ]
    return max(fitting, key=lambda number: bits[number], default=None)


def _placed(buffers: list[list[_Piece]], num_steps: int) -> tuple[int, list[int]]:
    """Return the size of the block and the place of each buffer.

    Buffers are put one after the other at the lowest place that is free. The order that gives the
    smallest block wins; none can be smaller than what is alive at the same time.
    """
    alive = [0] * num_steps
    for pieces in buffers:
        for piece in pieces:
            for index in range(piece.first, piece.last + 1):
                alive[index] += piece.size
    largest = [max(piece.size for piece in pieces) for pieces in buffers]
    spans = [pieces[-1].last - pieces[0].first for pieces in buffers]
    crowds = [
        max(alive[index] for piece in pieces for index in range(piece.first, piece.last + 1))
        for pieces in buffers
    ]
    everything = range(len(buffers))
    orders = (
        sorted(everything, key=lambda each: (-largest[each], each)),
        sorted(everything, key=lambda each: (-crowds[each], -largest[each], each)),
        sorted(everything, key=lambda each: (-largest[each] * (spans[each] + 1), each)),
        sorted(everything, key=lambda each: (-spans[each], -largest[each], each)),
        list(everything),
    )
    best: tuple[int, list[int]] | None = None
    for order in orders:
        size, places = _in_order(buffers, order)
        if best is None or size < best[0]:
            best = size, places
        if size == max(alive):
            break
    assert best is not None
    return best


def _in_order(buffers: list[list[_Piece]], order: Sequence[int]) -> tuple[int, list[int]]:
    places = [0] * len(buffers)
    done: list[int] = []
    size = 0
    for index in order:
        taken = []
        for other in done:
            for mine in buffers[index]:
                for its in buffers[other]:
                    if mine.first <= its.last and its.first <= mine.last:
                        start = places[other]
                        taken.append((start - mine.size, start + its.size))
        place = 0
        for before, behind in sorted(taken):
            if place <= before:
                break
            place = max(place, behind)
        places[index] = place
        done.append(index)
        size = max(size, place + max(piece.size for piece in buffers[index]))
    return size, places

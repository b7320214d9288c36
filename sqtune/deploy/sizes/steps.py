"""Operations on values -> steps, each of which stores what it makes: the C form and its forecast.

Whatever acts on one element after the other goes into the step in front, which applies it before it
stores the element: batch norm, ReLU, rounding to a layer's grid, and a sum with a value that is
there already. `sqtune.deploy.sizes.memory` gives the operations of a network that was only looked
at, the C writer those of its graph; both get the same steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

FLOAT_BITS = 32
Kind = Literal["image", "layer", "moves", "elements", "quantize", "other"]


@dataclass(frozen=True, slots=True)
class Operation:
    """What makes values from values.

    Attributes:
        kind: "image" makes the first value; "layer" uses weights; "moves" only moves elements, so
            that rounding before or behind it is the same; "elements" acts on one element after the
            other; "quantize" is such a one that rounds to a grid; "other" is anything else.
        label: For whoever made the operation.
        reads: Numbers of values.
        writes: Numbers of values.
        bits: Of the grid, where it quantizes.
        starts: Element at which each of `reads` begins; without any, 0.
        whole: Whether it reads all elements of what it reads.
    """

    kind: Kind
    label: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    bits: int = FLOAT_BITS
    starts: tuple[int, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """An operation and what is applied to each element before it is stored.

    Attributes:
        host: The operation.
        extras: Operations on its elements, in order.
        reads: Numbers of all values that it reads, each once.
        writes: Numbers of the values that it stores.
    """

    host: Operation
    extras: tuple[Operation, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]

    @property
    def last(self) -> Operation:
        """The operation whose results are stored."""
        return self.extras[-1] if self.extras else self.host


def steps(
    operations: Sequence[Operation], numbers: list[int], outputs: Collection[int]
) -> list[Step]:
    """Return the steps of operations, each of which stands behind those whose values it reads.

    Args:
        operations: The first makes the image.
        numbers: Elements of each value; values that are needed on the way are appended.
        outputs: Values that are returned.
    """
    operations = _round_before_moving(list(operations), numbers, outputs)
    operations = _round_at_once(operations, outputs)
    return _joined(operations, numbers, outputs)


def num_readers(operations: Sequence[Operation], outputs: Collection[int]) -> Counter[int]:
    """Return how many operations read each value; being returned counts as one."""
    reads = [number for operation in operations for number in set(operation.reads)]
    return Counter([*reads, *outputs])


def _round_before_moving(
    operations: list[Operation], numbers: list[int], outputs: Collection[int]
) -> list[Operation]:
    """Let rounding come before what only moves elements, if that saves memory.

    Max-pooling, concatenation and padding then work on codes. What something else reads too has to
    be there as float32 as well.
    """
    swapped: list[Operation] | None = operations
    while swapped is not None:
        operations = swapped
        swapped = _swapped_once(operations, numbers, outputs)
    return operations


def _swapped_once(
    operations: list[Operation], numbers: list[int], outputs: Collection[int]
) -> list[Operation] | None:
    readers = num_readers(operations, outputs)
    makers = {
        number: index for index, operation in enumerate(operations) for number in operation.writes
    }
    for index, rounding in enumerate(operations):
        if rounding.kind != "quantize":
            continue
        place = makers[rounding.reads[0]]
        moving = operations[place]
        if moving.kind != "moves" or moving.writes != rounding.reads:
            continue
        saved = sum(
            numbers[number] * (FLOAT_BITS if readers[number] == 1 else 0)
            - numbers[number] * rounding.bits
            for number in moving.reads
        )
        whole = rounding.whole and moving.whole
        if saved <= 0 or readers[rounding.reads[0]] != 1 or not whole:
            continue
        new = tuple(range(len(numbers), len(numbers) + len(moving.reads)))
        numbers += [numbers[number] for number in moving.reads]
        first = [
            replace(rounding, reads=(number,), writes=(made,), starts=())
            for number, made in zip(moving.reads, new, strict=True)
        ]
        then = replace(moving, reads=new, writes=rounding.writes, starts=())
        rest = [*operations[place + 1 : index], *operations[index + 1 :]]
        return [*operations[:place], *first, then, *rest]
    return None


def _round_at_once(operations: list[Operation], outputs: Collection[int]) -> list[Operation]:
    """Round a value as soon as it is there, if only layers on their grids read it.

    Its codes, for all of them, take less room than the value, which need not stay then.
    """
    others = num_readers([each for each in operations if each.kind != "quantize"], outputs)
    wanted: dict[int, list[Operation]] = {}
    for operation in operations:
        if operation.kind == "quantize" and not others[operation.reads[0]]:
            wanted.setdefault(operation.reads[0], []).append(operation)
    ordered = []
    for operation in operations:
        if operation.kind == "quantize" and operation.reads[0] in wanted:
            continue
        behind = [operation]
        while behind:
            one = behind.pop(0)
            ordered.append(one)
            behind += [each for number in one.writes for each in wanted.get(number, ())]
    return ordered


def _joined(
    operations: list[Operation], numbers: list[int], outputs: Collection[int]
) -> list[Step]:
    readers = num_readers(operations, outputs)
    made_in: dict[int, int] = {}  # the step that makes a value
    chains: list[list[Operation]] = []
    for operation in operations:
        host = _host(operation, made_in, readers, numbers)
        if host is None:
            host = len(chains)
            chains.append([])
        chains[host].append(operation)
        made_in.update(dict.fromkeys(operation.writes, host))
    joined = []
    for chain in chains:
        reads = [number for each in chain for number in each.reads]
        writes = [number for each in chain for number in each.writes]
        kept = tuple(number for number in dict.fromkeys(reads) if number not in writes)
        left = tuple(number for number in writes if number not in reads)
        joined.append(Step(chain[0], tuple(chain[1:]), kept, left))
    return joined


def _host(
    operation: Operation, made_in: dict[int, int], readers: Counter[int], numbers: list[int]
) -> int | None:
    """Return the step that can apply an operation to what it makes, before it stores that.

    It is the one that makes the last of the operation's inputs: the others are there by then.
    """
    if operation.kind not in ("elements", "quantize") or len(operation.writes) != 1:
        return None
    if not operation.whole:
        return None
    last = max(operation.reads, key=lambda number: made_in[number])
    alike = numbers[last] == numbers[operation.writes[0]]
    return made_in[last] if alike and readers[last] == 1 else None

"""What befalls workers while they train, and whether their trial is begun again or fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqtune.search.worker import death_reason

MAX_WORKER_DEATHS = 2  # in the same epoch of a trial: the next one fails it
MAX_LOST_NODES = 9  # likewise; a node that goes is nobody's fault, but a trial may be its end
WHOLE = 1.0  # GPU: the largest share


@dataclass(frozen=True, slots=True)
class Death:
    """Why a worker is gone.

    Attributes:
        cause: Its process died (`worker`); it was killed as the node ran low on memory (`memory`);
            its node has gone (`node`).
        why: What Ray says.
        alive: Nodes that have not gone; None: all that ever were.
    """

    cause: Literal["worker", "memory", "node"]
    why: str = ""
    alive: frozenset[str] | None = None


class Mishaps:
    """What has befallen the trials that have not ended.

    Args:
        gpus: What a trial gets.
        say: Shows a line.
    """

    def __init__(self, gpus: float, say: Callable[[str], None]) -> None:
        self.gpus, self._say = gpus, say
        self._deaths: defaultdict[int, list[tuple[int, str, bool]]] = defaultdict(list)
        self._nodes: dict[int, str] = {}
        self._enlarged: dict[int, float] = {}
        self._unplaced: set[int] = set()

    def gpus_of(self, number: int) -> float:
        """Return what a trial gets."""
        return self._enlarged.get(number, self.gpus)

    @property
    def room_wanted(self) -> bool:
        """Whether a trial with a larger share has not found room: others would always be first."""
        return bool(self._unplaced)

    def placed(self, number: int, node: str = "") -> None:
        """Take in that a trial is being trained, and where, or that it is not wanted any more."""
        self._unplaced.discard(number)
        self._nodes[number] = node

    def died(self, number: int, death: Death, num_epochs: int, log: Path) -> str | None:
        """Take in that a trial's worker is gone; return why the trial fails, None if it goes on.

        Args:
            number: The trial.
            death: Of its worker.
            num_epochs: Epochs that it had.
            log: Of the trial.
        """
        node = self._nodes.pop(number, "")
        self.placed(number)
        self._deaths[number].append((num_epochs, node, death.cause == "node"))
        lost, times = 0, 0
        for epoch, where, with_node in self._deaths[number]:
            # A node that shuts down may end its workers first; afterwards it is known to have gone.
            gone = with_node or (
                death.alive is not None and where != "" and where not in death.alive
            )
            lost += epoch == num_epochs and gone
            times += epoch == num_epochs and not gone
        if times <= MAX_WORKER_DEATHS and lost <= MAX_LOST_NODES:
            return None
        if lost > MAX_LOST_NODES:
            return f"{lost} nodes went while they trained its same epoch ({death.why}). See: {log}"
        if death.cause == "memory":
            return (
                f"its worker process was ended {times} times in the same epoch: {death.why}. Give "
                "fewer trials at once (search.max_concurrent), more resources.cpus to each, or a "
                f"smaller batch_size. See: {log}"
            )
        return death_reason(times, log)

    def ran_out(self, number: int, shortage: Mapping[str, Any]) -> str | None:
        """Take in that a trial ran out of its GPU's memory; return why it fails.

        The first time it gets a larger share, if there is one, and goes on: None.
        """
        self.placed(number)
        share = self.gpus_of(number)
        if number not in self._enlarged and 0 < share < WHOLE:
            self._enlarged[number] = min(WHOLE, 2 * share)
            self._unplaced.add(number)
            now = f"it goes on with {self._enlarged[number]:g}"
            self._say(f"trial {number:>3}  out of memory with {share:g} of a GPU; {now}")
            return None
        first = f", before that with {self.gpus:g}" if number in self._enlarged else ""
        remedy = "" if share >= WHOLE else ", or a larger share (resources.gpus)"
        return (
            f"it ran out of GPU memory with {share:g} of a GPU{first}. {_taken(shortage)}Give a "
            f"smaller trial.batch_size or network{remedy}. {shortage['why']}"
        )

    def forget(self, number: int) -> None:
        """Take in that a trial has ended."""
        self._deaths.pop(number, None)
        self._enlarged.pop(number, None)
        self._unplaced.discard(number)
        self._nodes.pop(number, None)


def _taken(shortage: Mapping[str, Any]) -> str:
    """Return what a trial had taken, where torch could say.

    >>> _taken({"gpu": "NVIDIA T4", "peak_bytes": 3 * 2**30, "total_bytes": 15 * 2**30})
    'It had taken 3,072 MiB of the 15,360 MiB of NVIDIA T4. '
    """
    if shortage.get("peak_bytes") is None:
        return ""
    peak, total = (f"{shortage[key] / 2**20:,.0f} MiB" for key in ("peak_bytes", "total_bytes"))
    return f"It had taken {peak} of the {total} of {shortage['gpu']}. "

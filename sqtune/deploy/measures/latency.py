"""How long ONNX files take, beside each other: in one process, on one thread, in turns.

What a shared machine does to one of them it does to all, so ratios are taken round by round. In a
round each file has a turn of several runs, of which the fastest counts: other processes interrupt
some. A second session of the base's own file is the control: its ratio says what can be told apart
here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqtune.deploy.measures.spread import Spread
from sqtune.deploy.runtime import Pixels, open_session, runner

CONTROL = "control"
TURN_SECONDS, LEAST_RUNS = 0.004, 3
LEAST_ROUNDS = 5
NUM_LOADS = 5


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """What one file takes.

    Attributes:
        run_ms: One run over the batch, the fastest of a turn.
        load_ms: Opening a session, graph optimisation included.
        ratio: Of the run to the base's in the same round; None for the base.
        load_ratio: Likewise of opening.
    """

    run_ms: Spread
    load_ms: Spread
    ratio: Spread | None
    load_ratio: Spread | None

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {name: None if one is None else one.as_data() for name, one in fields.items()}


@dataclass(frozen=True, slots=True)
class Latency:
    """Files beside each other.

    Attributes:
        batch: Images in a run.
        rounds: How often each had its turn.
        base: What ratios are to.
        times: By name; "control" is the base's file again.
    """

    batch: int
    rounds: int
    base: str
    times: Mapping[str, SessionTimes]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        times = {name: each.as_data() for name, each in self.times.items()}
        return {"batch": self.batch, "rounds": self.rounds, "base": self.base, "times": times}


def latency(
    files: Mapping[str, bytes],
    pixels: Pixels,
    *,
    base: str,
    rounds: int = 60,
    seconds: float = math.inf,
) -> Latency:
    """Measure files beside each other.

    Args:
        files: ONNX files by name.
        pixels: The batch: uint8, N x C x H x W.
        base: Name of the file that ratios are to.
        rounds: Turns of each file.
        seconds: After so many no further round begins, if there were five.
    """
    files = {**files, CONTROL: files[base]}
    loads = _load_times(files)
    runs = {name: runner(open_session(data)) for name, data in files.items()}
    expected = min(_seconds(runs[base], pixels) for _ in range(LEAST_RUNS))
    repeats = max(LEAST_RUNS, math.ceil(TURN_SECONDS / expected))
    times: dict[str, list[float]] = {name: [] for name in files}
    ends = time.perf_counter() + seconds
    names = list(files)
    while len(times[base]) < rounds and (
        time.perf_counter() < ends or len(times[base]) < LEAST_ROUNDS
    ):
        for name in names:
            times[name].append(min(_seconds(runs[name], pixels) for _ in range(repeats)))
        names = [*names[1:], names[0]]  # each comes first as often as the others
    return Latency(
        len(pixels),
        len(times[base]),
        base,
        {
            name: SessionTimes(
                _ms(times[name]),
                _ms(loads[name]),
                _ratio(times[name], times[base]) if name != base else None,
                _ratio(loads[name], loads[base]) if name != base else None,
            )
            for name in files
        },
    )


def _load_times(files: Mapping[str, bytes]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(NUM_LOADS):
        for name, data in files.items():
            times[name].append(_seconds(open_session, data))
    return times


def _seconds(action: Callable[[Any], object], what: Any) -> float:
    begun = time.perf_counter()
    action(what)
    return time.perf_counter() - begun


def _ms(seconds: list[float]) -> Spread:
    return Spread.of([1000 * each for each in seconds])


def _ratio(seconds: list[float], base: list[float]) -> Spread:
    return Spread.of([one / other for one, other in zip(seconds, base, strict=True)])

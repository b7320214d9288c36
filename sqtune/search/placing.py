"""Ray: what a leg asks for, how many run at once, and what became of a worker that is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from sqtune.search.ray_env import quieten

quieten()

import ray  # noqa: E402
from ray import cloudpickle, tune  # noqa: E402
from ray.air.execution._internal import actor_manager  # noqa: E402
from ray.exceptions import (  # noqa: E402
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
)

from sqtune.config.options import Resources  # noqa: E402
from sqtune.errors import ResourceError  # noqa: E402
from sqtune.search.machine import ACCELERATOR  # noqa: E402
from sqtune.search.mishaps import Death  # noqa: E402

SLIVER = 0.001  # of such a resource: of each node has 1
COUNT_SECONDS = 5.0  # between two counts of the slots
PATIENCE_SECONDS = 30.0  # without a running leg, before that is said; then twice as long each time
LOW_ON_MEMORY = "node running low on memory"
NODE_GONE = "its node has died"


def bundle_of(resources: Resources) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    """Return what tells Ray Tune what a leg asks for, given its configuration."""

    def bundle(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        asked = {"CPU": resources.cpus, "GPU": config["gpus"]}
        if resources.accelerator_type is not None:
            asked[ACCELERATOR + resources.accelerator_type] = SLIVER
        return tune.PlacementGroupFactory([{name: it for name, it in asked.items() if it}])

    return bundle


def survive_low_memory() -> None:
    """Let Ray Tune lose a worker that was killed for memory as one that died otherwise.

    It looks for one class of errors, of which that one is none, and ends the whole run on others.
    """
    died = (RayActorError, OutOfMemoryError)
    actor_manager.RayActorError = died  # type: ignore[attr-defined, assignment]


def error_of(trial: Any) -> BaseException | str:
    """Return what has just ended a trial of Ray Tune's; an actor's error, or the text of another.

    It is read from where Ray Tune notes it first; `get_pickled_error` looks where it is taken to.
    """
    for path, read in ((trial.pickled_error_file, cloudpickle.load), (trial.error_file, _text)):
        if path is not None and Path(path).exists():
            with Path(path).open("rb") as file:
                error: BaseException | str = read(file)
            return error
    return "unknown"


def _text(file: IO[bytes]) -> str:
    return file.read().decode(errors="replace").strip()


def death_by(error: BaseException | str) -> Death:
    """Return what killed a worker, as Ray's error says.

    Of a node that is alive Ray is told at once how a worker ended. One that is cut off may not be
    known to be dead within the time that Ray waits (`ray_env`): its workers are unavailable then.
    """
    text = str(error).strip()
    if LOW_ON_MEMORY in text:
        return Death("memory", next(line for line in text.splitlines() if LOW_ON_MEMORY in line))
    gone = isinstance(error, NodeDiedError | ActorUnavailableError) or NODE_GONE in text
    alive = frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
    return Death("node" if gone else "worker", text.splitlines()[-1], alive)


class Slots:
    """How many legs run at once.

    Args:
        number: As many; or what counts how many there can be, as nodes come and go.
    """

    def __init__(self, number: int | Callable[[], int]) -> None:
        self._count_now = number if callable(number) else None
        self.count = number() if callable(number) else number
        self._counted_at = time.monotonic()

    def look(self) -> None:
        """Count anew, if it is time."""
        if self._count_now is not None and time.monotonic() - self._counted_at > COUNT_SECONDS:
            self.count, self._counted_at = self._count_now(), time.monotonic()


class Waiting:
    """Says, ever more rarely, that no leg finds room.

    Args:
        resources: What one trial gets.
        say: Shows a line.
    """

    def __init__(self, resources: Resources, say: Callable[[str], None]) -> None:
        self._resources, self._say = resources, say
        self._since: float | None = None
        self._next_seconds = PATIENCE_SECONDS

    def look(self, states: Iterable[str]) -> None:
        """Take in the states of Ray Tune's trials."""
        found = set(states)
        if "RUNNING" in found or "PENDING" not in found:
            self._since, self._next_seconds = None, PATIENCE_SECONDS
            return
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= self._next_seconds:
            from sqtune.search.wording import duration

            self._next_seconds *= 2
            self._say(f"{self._reason()} (for {duration(now - self._since)} minutes)")

    def _reason(self) -> str:
        from sqtune.search.nodes import count_slots

        asked = asked_text(self._resources)
        if count_slots(self._resources):
            return f"waiting for room for a trial ({asked}): others hold the nodes, or it is slow"
        return f"waiting for a node with {asked}: there is none now"


def refuse_second_ray() -> None:
    """Refuse to start Ray in a process in which it runs.

    Raises:
        ResourceError: It does.
    """
    if ray.is_initialized():
        raise ResourceError(
            "Ray runs in this process already: another search is at work in it, or ray.init() was "
            "called. Wait for that search, or call ray.shutdown(); the same call then goes on."
        )


def asked_text(resources: Resources) -> str:
    """Return what a trial asks for, in words.

    >>> asked_text(Resources(cpus=2)), asked_text(Resources(gpus=0.5, accelerator_type="T4"))
    ('2 CPUs', '1 CPU and 0.5 of a GPU (T4)')
    """
    gpus = resources.known_gpus
    text = f"{resources.cpus:g} CPU" + ("" if resources.cpus == 1 else "s")
    if gpus:
        text += f" and {gpus:g} " + ("of a GPU" if gpus < 1 else "GPU" if gpus == 1 else "GPUs")
    return text + (f" ({resources.accelerator_type})" if resources.accelerator_type else "")

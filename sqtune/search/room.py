"""What room there is for trials: as a search begins, and as nodes come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqtune.config.options import Resources
from sqtune.config.space import SearchSpace
from sqtune.search.machine import Machine, slots_on, this_machine

if TYPE_CHECKING:
    from sqtune.search.driver import Driver


def room_at_first(space: SearchSpace, address: str | None) -> Machine:
    """Return what there is to train on."""
    if address is None:
        return this_machine(space.resources)
    from sqtune.search.cluster import reach

    return reach(address, space.resources, space.search.max_concurrent)


def slots_counted(
    driver: Driver, machine: Machine, resources: Resources, *, in_cluster: bool
) -> Callable[[], int]:
    """Return what counts how many trials run at once; in a cluster nodes come and go."""
    wanted = driver.study.space.search.max_concurrent

    def count() -> int:
        if not in_cluster:
            there = slots_on(machine.cpus, machine.gpus, resources)
            driver.num_slots = min(wanted or there, there)
        elif wanted is not None:  # an autoscaler may bring nodes up
            driver.num_slots = wanted
        else:
            from sqtune.search.nodes import count_slots

            driver.num_slots = max(1, count_slots(resources))
        return driver.num_slots

    return count

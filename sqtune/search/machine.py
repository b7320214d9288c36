"""What there is to train on, this machine or a cluster's, and how many trials fit at once."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sqtune.config.options import Resources
from sqtune.errors import ResourceError


@dataclass(frozen=True, slots=True)
class Machine:
    """What one machine has, or several together, and how many trials fit at once."""

    cpus: int
    gpus: int
    slots: int


def slots_on(cpus: float, gpus: float, resources: Resources) -> int:
    """Return how many trials fit at once on one machine.

    >>> slots_on(8, 2, Resources(cpus=2, gpus=0.5)), slots_on(8, 1, Resources(cpus=2, gpus=0.4))
    (4, 2)
    """
    slots = int(cpus / resources.cpus)
    if not resources.gpus:
        return slots
    share = resources.gpus
    return min(slots, int(gpus / share) if share > 1 else int(gpus) * int(1 / share))


def this_machine(resources: Resources) -> Machine:
    """Look at this machine.

    Raises:
        ResourceError: Not even one trial fits.
    """
    import torch

    cpus, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    for kind, asked, there in (("cpus", resources.cpus, cpus), ("gpus", resources.gpus, gpus)):
        if asked > there:
            most = f"{there} or less" if there else "0"
            raise ResourceError(
                f"resources.{kind}: a trial asks for {asked:g} {kind.upper()[:-1]}s, this machine "
                f"has {there}. Give --set resources.{kind}={most}."
            )
    return Machine(cpus, gpus, slots_on(cpus, gpus, resources))

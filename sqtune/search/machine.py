"""What this machine has, and how many trials fit on it at once."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sqtune.config.options import Resources
from sqtune.errors import ResourceError


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has, and how many trials fit at once."""

    cpus: int
    gpus: int
    slots: int


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
    slots = cpus / resources.cpus
    return Machine(cpus, gpus, int(min(slots, gpus / resources.gpus) if resources.gpus else slots))

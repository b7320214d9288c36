"""What there is to train on, this machine or a cluster's, and how many trials fit at once."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqtune.config.options import Resources
from sqtune.errors import ResourceError

ACCELERATOR = "accelerator_type:"  # before a kind of GPU, in the name of Ray's resource


@dataclass(frozen=True, slots=True)
class Machine:
    """What one machine has, or several together, and how many trials fit at once.

    Attributes:
        cpus: Of all.
        gpus: Of all.
        slots: Trials at once; as many as CPUs allow while the share of a GPU is not known.
        resources: What one trial gets here.
        note: What was decided and is to be said; None where nothing was.
    """

    cpus: int
    gpus: int
    slots: int
    resources: Resources
    note: str | None = None


def slots_on(cpus: float, gpus: float, resources: Resources) -> int:
    """Return how many trials fit at once on one machine.

    >>> slots_on(8, 2, Resources(cpus=2, gpus=0.5)), slots_on(8, 1, Resources(cpus=2, gpus=0.4))
    (4, 2)
    >>> slots_on(8, 1, Resources(gpus="auto")), slots_on(8, 0, Resources(gpus="auto"))
    (8, 0)
    """
    slots = int(cpus / resources.cpus)
    if not resources.gpus:
        return slots
    if resources.gpus == "auto":
        return slots if gpus else 0
    share = resources.gpus
    return min(slots, int(gpus / share) if share > 1 else int(gpus) * int(1 / share))


def slots_of(node: Mapping[str, Any], resources: Resources) -> int:
    """Return how many trials fit at once on a node.

    >>> node = {"cpus": 4.0, "gpus": 1.0, "accelerators": ["T4"]}
    >>> slots_of(node, Resources(gpus=0.5, accelerator_type="T4"))
    2
    >>> slots_of(node, Resources(gpus=0.5, accelerator_type="A100"))
    0
    """
    kind = resources.accelerator_type
    if kind is not None and kind not in node["accelerators"]:
        return 0
    return slots_on(node["cpus"], node["gpus"], resources)


def this_machine(resources: Resources) -> Machine:
    """Look at this machine.

    Raises:
        ResourceError: Not even one trial fits, or its GPUs are of another kind.
    """
    import torch

    cpus, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    resources, note = on_cpus_without_gpus(resources, gpus, "this machine has no GPU")
    asked_gpus = 1 if resources.gpus == "auto" else resources.gpus
    for kind, asked, there in (("cpus", resources.cpus, cpus), ("gpus", asked_gpus, gpus)):
        if asked > there:
            most = f"{there} or less" if there else "0"
            raise ResourceError(
                f"resources.{kind}: a trial asks for {asked:g} {kind.upper()[:-1]}s, this machine "
                f"has {there}. Give --set resources.{kind}={most}."
            )
    if resources.accelerator_type is not None:
        check_kind(resources.accelerator_type, [torch.cuda.get_device_name(i) for i in range(gpus)])
        resources = resources.model_copy(update={"accelerator_type": None})  # Ray need not choose
    return Machine(cpus, gpus, slots_on(cpus, gpus, resources), resources, note)


def on_cpus_without_gpus(
    resources: Resources, gpus: float, why: str
) -> tuple[Resources, str | None]:
    """Settle `gpus: auto` where there are none; return that, and what is to be said.

    >>> on_cpus_without_gpus(Resources(gpus="auto"), 0, "this machine has no GPU")[1]
    'resources.gpus: auto: this machine has no GPU, trials train on CPUs'
    """
    if gpus or resources.gpus != "auto":
        return resources, None
    note = f"resources.gpus: auto: {why}, trials train on CPUs"
    return resources.model_copy(update={"gpus": 0.0, "accelerator_type": None}), note


def check_kind(kind: str, names: Collection[str]) -> None:
    """Refuse GPUs of another kind than the one that was asked for.

    Args:
        kind: As Ray names it.
        names: Of this machine's GPUs, as torch says them.

    Raises:
        ResourceError: One is of another kind.

    >>> check_kind("A100", ["NVIDIA A100-SXM4-40GB"]), check_kind("A100-40G", ["NVIDIA A100-40GB"])
    (None, None)
    """
    wanted = set(re.findall(r"\w+", kind.lower()))
    for name in names:
        words = set(re.findall(r"\w+", name.lower()))
        if not all({word, f"{word}b"} & words for word in wanted):
            raise ResourceError(
                f"resources.accelerator_type: trials ask for {kind}, this machine has {name}. "
                "Give --set resources.accelerator_type=null to train on it, or --address of a "
                "cluster that has such nodes."
            )

"""`resources.gpus: auto`: a task of Ray measures memory on a GPU, which makes a share of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError

from sqtune.config.options import Resources
from sqtune.config.space import SearchSpace
from sqtune.data.split import open_prepared
from sqtune.search.gpu_probe import measure, no_peak, peak_of
from sqtune.search.machine import ACCELERATOR, slots_of
from sqtune.search.nodes import nodes
from sqtune.search.origin import versions
from sqtune.search.peak import Peak, digest, largest_configs, share_of_gpu, share_text
from sqtune.search.placing import PATIENCE_SECONDS, SLIVER
from sqtune.search.prepare import prepared
from sqtune.search.study import Study
from sqtune.search.wording import duration
from sqtune.store import Store

SHARE = "gpu_share"  # the study's attribute
Kinds = Sequence[str | None]


def settle(
    space: SearchSpace,
    study: Study,
    store: Store,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Resources | None:
    """Return a trial's resources with its share of a GPU; None where the search is to stop.

    What was measured before holds as long as nothing that decides it has changed: configurations,
    data, kinds of GPU and versions.

    Args:
        space: What is searched, with `gpus: auto`; Ray is there and has GPUs, or may get them.
        study: Remembers what was measured.
        store: Where prepared data lie.
        say: Shows a line.
        should_stop: Whether the search ends now.

    Raises:
        ResourceError: The largest configuration fits no GPU, or could not be trained.
    """
    resources = space.resources
    kinds = _kinds(resources, _suited(resources))
    configs = largest_configs(space, lambda config: open_prepared(prepared(config, store)))
    trainings = [
        (config.model_dump_json(), store.name(prepared(config, store))) for config in configs
    ]
    key = digest(kinds, [config.nested() for config in configs], versions())
    known = study.attrs.get(SHARE, {})
    if known.get("key") == key:
        peaks = [Peak(**peak) for peak in known["peaks"]]
    else:
        say("resources.gpus: auto: measuring what the largest networks take of a GPU's memory ...")
        measured = _measured(resources, kinds, (trainings, store.place), say, should_stop)
        if measured is None:
            return None
        peaks = measured
    most = max(
        (-(-slots_of(node, resources) // int(node["gpus"])) for node in _suited(resources)),
        default=1,
    )
    gpus = share_of_gpu(peaks, most)
    study.set_attr(SHARE, {"key": key, "gpus": gpus, "peaks": [asdict(peak) for peak in peaks]})
    say(share_text(peaks, gpus, most))
    return resources.model_copy(update={"gpus": gpus})


def _suited(resources: Resources) -> list[dict[str, Any]]:
    """Return the nodes that have a GPU for a trial; when it is measured, there are some."""
    return [node for node in nodes() if slots_of(node, resources)]


def _kinds(resources: Resources, there: list[dict[str, Any]]) -> list[str | None]:
    """Return the kinds of GPU to measure on; None is any."""
    if resources.accelerator_type is not None:
        return [resources.accelerator_type]
    named = sorted({kind for node in there for kind in node["accelerators"]})
    return [*named, None] if not all(node["accelerators"] for node in there) else [*named]


def _measured(
    resources: Resources,
    kinds: Kinds,
    arguments: tuple[Any, ...],
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> list[Peak] | None:
    """Measure on a whole GPU of each kind, each in a process that ends with it."""
    task = ray.remote(num_cpus=resources.cpus, num_gpus=1, max_calls=1, max_retries=0)(measure)
    options = [{} if kind is None else {ACCELERATOR + kind: SLIVER} for kind in kinds]
    asked = [task.options(resources=option).remote(*arguments) for option in options]
    begun, patience = time.monotonic(), PATIENCE_SECONDS
    while ray.wait(asked, num_returns=len(asked), timeout=0.5)[1]:
        if should_stop():
            for each in asked:
                ray.cancel(each, force=True)
            return None
        if time.monotonic() - begun > patience:
            waited = f"for {duration(patience)} minutes"
            say(f"waiting for a free GPU to measure on, or for it, {waited}")
            patience *= 2
    try:
        return [peak_of(answer) for answer in ray.get(asked)]
    except RayError as error:
        raise no_peak(str(error).strip().splitlines()[-1]) from error

"""A Ray cluster's nodes: what they have, and whether they suit the driver.

python -m sqtune.search.nodes ADDRESS      prints what they have, as JSON
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqtune.search.ray_env import quieten

quieten(cluster=True)

import ray  # noqa: E402
from ray.exceptions import (  # noqa: E402
    GetTimeoutError,
    NodeDiedError,
    TaskUnschedulableError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from sqtune.config.options import Resources  # noqa: E402
from sqtune.errors import ClusterError  # noqa: E402
from sqtune.search.cluster import watched  # noqa: E402
from sqtune.search.machine import ACCELERATOR, slots_of  # noqa: E402
from sqtune.search.origin import Origin, problem  # noqa: E402

LOOK_SECONDS = 60.0  # for a node to start a process and look
RaySystemErrors = (NodeDiedError, TaskUnschedulableError, WorkerCrashedError)
NO_CODE = (
    "sqtune, or what it needs, cannot be imported there: {reason}. Install it on all nodes, or "
    "give --working-dir the folder that holds its code."
)


@contextmanager
def joined(
    address: str,
    working_dir: Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Iterator[None]:
    """Be a driver of a Ray cluster for the block.

    Args:
        address: "auto" or HOST:PORT; `reach` has found it to answer.
        working_dir: Folder that all workers get a copy of, and import from.
        say: Told when the head does not answer.
    """
    ray.init(
        address=address,
        runtime_env=None if working_dir is None else {"working_dir": str(working_dir)},
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        with watched(ray.get_runtime_context().gcs_address, say):
            yield
    finally:
        ray.shutdown()


def nodes() -> list[dict[str, Any]]:
    """Return what each live node has: `id`, `name`, `address`, `cpus`, `gpus`, `accelerators`."""
    return [
        {
            "id": node["NodeID"],
            "name": node["NodeManagerHostname"],
            "address": node["NodeManagerAddress"],
            "cpus": node["Resources"].get("CPU", 0.0),
            "gpus": node["Resources"].get("GPU", 0.0),
            "accelerators": [
                name.removeprefix(ACCELERATOR)
                for name in sorted(node["Resources"])
                if name.startswith(ACCELERATOR)
            ],
        }
        for node in ray.nodes()
        if node["Alive"]
    ]


def known_accelerators() -> list[str]:
    """Return the kinds of GPU that Ray has names for."""
    from ray.util.accelerators import accelerators

    return [value for name, value in vars(accelerators).items() if name[0].isupper()]


def count_slots(resources: Resources) -> int:
    """Return how many trials fit at once on all live nodes."""
    return sum(slots_of(node, resources) for node in nodes())


def check_nodes(origin: Origin, resources: Resources) -> None:
    """Let every node that has room for a trial compare itself with the driver.

    Raises:
        ClusterError: One has other versions, or does not see the store.
    """
    look = ray.remote(num_cpus=0, max_retries=0)(problem)
    looks = [
        (node, look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["id"], False)))
        for node in nodes()
        if slots_of(node, resources)
    ]
    answers = [(node, ask.remote(asdict(origin))) for node, ask in looks]
    for node, answer in answers:
        where = f"node {node['address']} ({node['name']})"
        try:
            found = ray.get(answer, timeout=LOOK_SECONDS)
        except GetTimeoutError:
            raise ClusterError(
                f"{where} did not answer within {LOOK_SECONDS:g} s. See `ray status` and the logs "
                "of its raylet."
            ) from None
        except RaySystemErrors:
            if node["id"] not in {each["id"] for each in nodes()}:
                continue  # it has gone meanwhile
            raise ClusterError(
                f"{where} could not be asked; its worker process died. Its disk (of Ray's "
                "--temp-dir) or its memory may be full: see there, and the logs of its raylet."
            ) from None
        except Exception as error:  # whatever the import there raised
            reason = str(error).strip().splitlines()[-1]
            raise ClusterError(f"{where}: {NO_CODE.format(reason=reason)}") from error
        if found is not None:
            raise ClusterError(f"{where}: {found}")


if __name__ == "__main__":
    with joined(sys.argv[1]):
        print(json.dumps({"nodes": nodes(), "accelerators": known_accelerators()}))

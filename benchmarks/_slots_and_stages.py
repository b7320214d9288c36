"""What grows with the trials at once, and what a training asks of the stage store."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _results import Figure

NUM_EPOCHS = 8


class Counted:
    """Something whose methods are counted by name as they are called."""

    def __init__(self, counted: Any, calls: Counter[str]) -> None:
        self._counted, self._calls = counted, calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._counted, name)
        if not callable(method):
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls[name] += 1
            return method(*arguments, **named)

        return call


def stages() -> Iterator[Figure]:
    """Train a little with a stage store, and look at what it holds and was asked."""
    import torch
    from _random_cifar import random_splits

    from sqtune.config import TrialConfig
    from sqtune.data import Cifar
    from sqtune.networks import ResNet, Vgg9
    from sqtune.quant import Binary, Stages
    from sqtune.train.loop import train
    from sqtune.train.stage_session import StageSession
    from sqtune.train.stage_store import StageStore

    torch.set_num_threads(1)
    splits = random_splits(256, seed=0)
    networks = {"ResNet-8": ResNet("resnet8"), "ResNet-20": ResNet("resnet20"), "VGG-9": Vgg9()}
    for name, network in networks.items():
        store, calls = StageStore(f"memory://{name}", 2**40), Counter[str]()
        files: Any = store._later._files  # type: ignore[union-attr]
        files._fs = Counted(files._fs, calls)
        config = TrialConfig(
            data=Cifar(),
            network=network,
            quantizer=Binary(),
            schedule=Stages(ratios=(0.5, 1.0), starts=(0.0, 0.5)),
            num_epochs=NUM_EPOCHS,
        )
        session = StageSession(store, "benchmark:1")
        for _ in train(config, splits=splits, stages=session):
            session.finish(60.0)  # real epochs are longer than writing takes
        asked, size = dict(calls), max(entry.size_bytes for entry in store.entries())
        yield Figure(f"checkpoint of {name}", "MB", [size / 1e6])
        if name == "ResNet-8":
            for what, number in sorted(asked.items()):
                title = f"object store: {what}, training of 2 stages and {NUM_EPOCHS} epochs"
                yield Figure(title, "requests", [number])


def slots() -> Iterator[Figure]:
    """Time what grows with the trials at once, beyond what two cores can run."""
    yield from _reports()
    import ray

    from sqtune.search.executor import local_ray
    from sqtune.search.sharing import Course, Sharing

    @ray.remote(num_cpus=0)
    class Sleeper:
        def sleep(self) -> None:
            time.sleep(3600)

    for number in (64, 1_000, 8_000):
        with local_ray(1, 0):
            sleeper: Any = Sleeper.remote()
            pending = [sleeper.sleep.remote() for _ in range(number)]
            times = []
            for _ in range(20):
                started = time.perf_counter()
                futures = [*pending, ray.put(0)]
                random.shuffle(futures)  # as Ray Tune does for each report
                ray.wait(futures, num_returns=1, timeout=0.1)
                times.append(1000 * (time.perf_counter() - started))
        yield Figure(f"Ray's wait for the next report, {number:,} at once", "ms", times)
        for alike, what in ((0, "nothing"), (4, "4 epochs")):
            sharing, times = Sharing(_nothing_stored), []
            for other in range(number):
                keys = tuple(f"{'' if epoch < alike else other}:{epoch}" for epoch in range(12))
                sharing.begin(other, Course(keys, (4, 12)))
                sharing.progress(other, 4)
            course = Course(
                tuple(f"{'' if epoch < alike else 'x'}:{epoch}" for epoch in range(12)), ()
            )
            for _ in range(20):
                started = time.perf_counter()
                sharing.waits_for(course)
                times.append(1000 * (time.perf_counter() - started))
            title = (
                f"whether a trial waits for another's stage, {number:,} at once that share {what}"
            )
            yield Figure(title, "ms", times)


def _reports() -> Iterator[Figure]:
    """Time Ray Tune alone, as fast as two workers can report."""
    from _simulated import SPACE, Nowhere, Talker

    from sqtune.config import load_space
    from sqtune.search.executor import local_ray, run_trials

    values: dict[str, list[float]] = {"ms": [], "ms of its thread": [], "ms of the process": []}
    with tempfile.TemporaryDirectory() as folder, local_ray(2, 0):
        for _ in range(3):
            before = time.perf_counter(), time.thread_time(), time.process_time()
            run_trials(
                Nowhere(4),
                load_space(SPACE).resources,
                num_slots=2,
                folder=Path(folder) / "ray",
                trainable=Talker,
            )
            after = time.perf_counter(), time.thread_time(), time.process_time()
            for unit, began, ended in zip(values, before, after, strict=True):
                values[unit].append(1000 * (ended - began) / (4 * Talker.num_reports))
    for unit, found in values.items():
        yield Figure(f"Ray Tune alone: a report, {unit}", "ms", found)


def _nothing_stored(keys: tuple[str, ...]) -> int:
    del keys
    return 0

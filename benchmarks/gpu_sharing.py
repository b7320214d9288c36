"""Images per second of 1, 2, 4 and 8 trainings that share one GPU, with and without NVIDIA's MPS.

    python benchmarks/gpu_sharing.py
    python benchmarks/gpu_sharing.py --network vgg9 --processes 1 3 --no-save
    python benchmarks/gpu_sharing.py --device cpu --seconds 5 --no-save    (tries the script itself)

Each process runs the training loop of `sqtune train`, binary, half of the filters at a step, on
random images that lie on the GPU. All train at least through one common span of time, which begins
when the last of them has finished its first epoch; a process counts with its epochs in that span.
MPS, CUDA's multi-process service, lets kernels of several processes run side by side; it is started
here (nvidia-cuda-mps-control) and stopped again. Rounds alternate with and without it.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from _random_cifar import NETWORKS, half_binary, random_splits
from _results import Figure, Pedigree

READY_SECONDS = 600.0  # for all processes to import torch and train an epoch
MPS_CONTROL = "nvidia-cuda-mps-control"
MPS_START_SECONDS = 30.0
MPS_FOLDERS = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
NUM_EPOCHS = 100_000  # the span ends the training, not its length


def throughput(options: argparse.Namespace, num_processes: int) -> float:
    """Train in so many processes at once; return the sum of their images a second.

    Raises:
        RuntimeError: A process failed; its traceback stands on stderr.
    """
    spawn = multiprocessing.get_context("spawn")
    ready, reports = spawn.Barrier(num_processes), spawn.SimpleQueue()
    processes = [
        spawn.Process(target=_work, args=(options, ready, reports), daemon=True)
        for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode != 0 for process in processes):
        raise RuntimeError(f"one of {num_processes} processes failed")
    return sum(reports.get() for _ in processes)


def _work(options: argparse.Namespace, ready: Any, reports: Any) -> None:
    """Train until the common span is over; report the images a second of the epochs in it."""
    from sqtune.train.loop import train

    config = half_binary(
        options.network, batch_size=options.batch_size, num_epochs=NUM_EPOCHS, seed=options.seed
    )
    splits = random_splits(options.steps * options.batch_size, options.seed)
    results = train(config, splits=splits, device=options.device, num_threads=1)
    try:
        next(results)
    except BaseException:
        ready.abort()  # the others need not wait
        raise
    ready.wait(READY_SECONDS)
    begin = time.monotonic()  # the machine's clock: within milliseconds the same in all processes
    num_epochs, end = 0, begin
    for _ in results:
        now = time.monotonic()
        if now > begin + options.seconds and num_epochs > 0:
            break
        num_epochs, end = num_epochs + 1, now
    reports.put(num_epochs * options.steps * options.batch_size / (end - begin))


@contextmanager
def mps(*, on: bool) -> Iterator[None]:
    """Run processes started in the block with a multi-process service of their own, or with none.

    A service that somebody else runs in the usual place is not used either way.

    Raises:
        RuntimeError: The service does not start.
    """
    before = {key: os.environ.get(key) for key in MPS_FOLDERS}
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        os.environ.update(dict.fromkeys(MPS_FOLDERS, folder))
        try:
            if on:
                _control("-d")
            try:
                yield
            finally:
                if on:
                    _control(command="quit")
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value


def _control(*arguments: str, command: str = "") -> None:
    """Call the service's control program; a command goes to the daemon that is running."""
    try:
        subprocess.run(
            [MPS_CONTROL, *arguments],
            input=command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=MPS_START_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"{MPS_CONTROL}: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a measurement")
    parser.add_argument("--steps", type=int, default=50, help="training steps an epoch")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of weights, images and order")
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    options = parser.parse_args()
    on_cuda = torch.device(options.device).type == "cuda"
    if on_cuda and not torch.cuda.is_available():
        print("gpu_sharing: no CUDA device here, nothing is measured")
        return
    pedigree = Pedigree()
    notes = ["each process trains on one CPU thread"]
    ways = ["plain"]
    if on_cuda and shutil.which(MPS_CONTROL):
        ways.append("MPS")
    else:
        notes.append(f"without MPS: {MPS_CONTROL} is not here")
    speeds: dict[tuple[int, str], list[float]] = {}
    for number, count in itertools.product(range(options.rounds), options.processes):
        for way in ways if number % 2 == 0 else reversed(ways):
            try:
                with mps(on=way == "MPS"):
                    speed = throughput(options, count)
            except RuntimeError as error:
                if way == "plain":
                    sys.exit(str(error))
                notes.append(f"MPS, {count} processes: {error}")
                continue
            speeds.setdefault((count, way), []).append(speed)
            print(f"{count} processes, {way}: {speed:.0f} images/s", flush=True)
    pedigree.report(
        "gpu_sharing",
        _figures(speeds),
        settings={
            "device": torch.cuda.get_device_name(options.device) if on_cuda else "cpu",
            "network": options.network,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "steps_per_epoch": options.steps,
            "batch_size": options.batch_size,
        },
        seeds={"trial.seed": options.seed},
        notes=list(dict.fromkeys(notes)),
        save=not options.no_save,
    )


def _figures(speeds: dict[tuple[int, str], list[float]]) -> list[Figure]:
    """Return images a second, and their ratio to the fewest processes without MPS, by round."""
    figures = [
        Figure(f"{count} processes, {way}", "images/s", values)
        for (count, way), values in speeds.items()
    ]
    fewest = min(count for count, _ in speeds)
    base = speeds[fewest, "plain"]
    for (count, way), values in speeds.items():
        if (count, way) != (fewest, "plain") and len(values) == len(base):
            ratios = [one / other for one, other in zip(values, base, strict=True)]
            figures.append(Figure(f"{count} processes, {way}, over {fewest}, plain", "", ratios))
    return figures


if __name__ == "__main__":
    main()

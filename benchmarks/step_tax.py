"""What Stochastic Quantization adds to a training step: time and memory.

    python benchmarks/step_tax.py
    python benchmarks/step_tax.py --quick --methods binary ternary --no-save

Step tax: a step's time over that of the float step of the same round. A step is zero_grad, forward,
loss and backward inside hybrid() at ratio 0.5, and the optimizer's update (SGD with momentum and
weight decay). In a round the methods take turns, each with a network, an optimizer and data of the
same shape; who goes first changes with every round. `float-again` is the float step once more: what
it differs from 1 is noise. Methods without a bound take part in every third round. Brevitas
quantizes all weights in every step and is timed where it is installed (the extra "bench").
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from collections.abc import Callable, Sequence

import torch
from _methods import (
    FLOAT,
    FLOAT_AGAIN,
    METHODS,
    RATIO,
    Method,
    Runner,
    brevitas_is_installed,
)
from _results import Pedigree
from _step_memory import entry_peaks, held_bytes, weight_bytes
from _step_report import Alone, Timed, figures_of, markdown_of
from torch import Tensor

from sqtune.networks import ResNet, build

TURNS = 3  # methods without a bound take part in one round of so many
NUM_BATCHES = 4
WARM_UP_ROUNDS = 2
ENTRIES = 40  # of hybrid(), for its time alone
STEPS_AT_A_TIME = {"cpu": 1, "cuda": 20}  # a GPU is kept busy across steps, as in training
MALLOC_SETTINGS = ((-4, 0), (-1, 2**31 - 1))  # M_MMAP_MAX, M_TRIM_THRESHOLD: see keep_memory()

Clock = Callable[[], float]


def keep_memory() -> None:
    """Make glibc keep freed memory; otherwise every large tensor is mapped and faulted in anew.

    That costs all methods alike, a tenth of a float step and more, in an irregular way: ratios of
    single rounds scattered by 8 % with it and by 1 % without.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    for parameter, value in MALLOC_SETTINGS:
        mallopt(parameter, value)


def time_steps(
    runners: Sequence[Runner],
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    num_rounds: int,
    device: torch.device,
    clock: Clock,
) -> list[dict[str, float]]:
    """Return each round's seconds a step by method, after a warm-up."""
    always = [one for one in runners if one.method.claimed or one.method in (FLOAT, FLOAT_AGAIN)]
    others = [one for one in runners if one not in always]
    num_steps = STEPS_AT_A_TIME[device.type]
    rounds = []
    for number in range(-WARM_UP_ROUNDS, num_rounds):
        turn = runners if number < 0 else [*always, *others[number % TURNS :: TURNS]]
        first = number % len(turn)
        order = [*turn[first:], *turn[:first]]
        if number % 2:
            order.reverse()  # so that each method has more than one predecessor
        gc.collect()
        seconds = {}
        for runner in order:
            _wait(device)
            started = clock()
            for step in range(num_steps):
                runner.step(*batches[(number + step) % len(batches)])
            _wait(device)
            seconds[runner.method.name] = (clock() - started) / num_steps
        if number >= 0:
            rounds.append(seconds)
    return rounds


def measure_alone(
    network: str, runners: Sequence[Runner], device: torch.device, clock: Clock
) -> list[Alone]:
    """Time hybrid() without a step inside, the methods in turn, and weigh it."""
    times: dict[str, list[float]] = {runner.method.name: [] for runner in runners}
    for number in range(-WARM_UP_ROUNDS, ENTRIES):
        for runner in runners:
            _wait(device)
            started = clock()
            with runner.hybrid():
                pass
            _wait(device)
            if number >= 0:
                times[runner.method.name].append(round(1e3 * (clock() - started), 4))
    peaks = entry_peaks(runners, device)
    return [
        Alone(
            network,
            runner.method.name,
            times[runner.method.name],
            held_bytes(runner) / weight_bytes(runner),
            peaks[runner.method.name] / weight_bytes(runner),
        )
        for runner in runners
    ]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_batches(batch: int, device: torch.device, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return batches of CIFAR's shape, in the memory format of the networks."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(NUM_BATCHES):
        images = torch.randn(batch, 3, 32, 32, generator=generator).to(device)
        if device.type == "cuda":
            images = images.to(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (batch,), generator=generator).to(device)
        batches.append((images, labels))
    return batches


def measure(
    options: argparse.Namespace, methods: Sequence[Method], device: torch.device
) -> tuple[list[Timed], list[Alone]]:
    clock = {"wall": time.perf_counter, "cpu": time.thread_time}[options.clock]
    timed, alone = [], []
    for network in options.networks:
        torch.manual_seed(options.seed)
        model = build(ResNet(network), 3, 10)
        for batch in options.batches:
            runners = [Runner(method, model, device) for method in methods]
            print(f"{network}, batch {batch} ...", flush=True)
            rounds = time_steps(
                runners,
                random_batches(batch, device, options.seed),
                num_rounds=options.rounds,
                device=device,
                clock=clock,
            )
            timed.append(Timed(network, batch, device.type, rounds))
        alone += measure_alone(
            network, [one for one in runners if one.quantization is not None], device, clock
        )
    return timed, alone


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    keep_memory()
    wanted = [method for method in METHODS if method.name in options.methods]
    notes = [
        f"ratio {RATIO}; spread is the interquartile range; float-again shows the noise",
        f"clock: {options.clock}; garbage collection is off, glibc keeps freed memory (mallopt)",
        "held and taken: times the bytes of the quantized weights",
    ]
    if not brevitas_is_installed() and any(method.brevitas for method in wanted):
        wanted = [method for method in wanted if method.brevitas is None]
        notes.append("Brevitas is not installed and was skipped")
        print(notes[-1])
    methods = [FLOAT, FLOAT_AGAIN, *wanted]
    device = torch.device(options.device)
    pedigree = Pedigree()
    gc.disable()
    timed, alone = measure(options, methods, device)
    cpu = f"{options.threads} CPU thread{'s' if options.threads > 1 else ''}"
    where = torch.cuda.get_device_name() if device.type == "cuda" else cpu
    pedigree.report(
        "step_tax",
        figures_of(timed, alone, methods),
        settings={
            "networks": options.networks,
            "batches": options.batches,
            "methods": [method.name for method in methods],
            "rounds": options.rounds,
            "threads": options.threads,
            "device": where,
            "clock": options.clock,
        },
        seeds={"seed": options.seed},
        notes=notes,
        save=not options.no_save,
        table=markdown_of(timed, alone, methods, f"On {where}; {pedigree.line()}"),
    )


def _options() -> argparse.Namespace:
    names = [method.name for method in METHODS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet20", "resnet56"], metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 32], metavar="IMAGES")
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=24, help="measurements; a multiple of 3")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: thread time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="resnet20, 9 rounds")
    parser.add_argument("--no-save", action="store_true", help="print only, write no files")
    options = parser.parse_args()
    if options.quick:
        options.networks, options.rounds = ["resnet20"], 9
    if options.rounds < TURNS:
        parser.error(f"--rounds is at least {TURNS}, so that each method is timed")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.clock == "cpu" and options.device != "cpu":
        parser.error("--clock cpu does not see the work of a GPU")
    return options


if __name__ == "__main__":
    main()

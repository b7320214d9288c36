"""Images per second of our training against a plain float loop that reads a DataLoader.

    python benchmarks/train_throughput.py
    python benchmarks/train_throughput.py --quick --no-save
    python benchmarks/train_throughput.py --device cuda --steps 200

Ours: the training loop of `sqtune train`, binary, half of the filters at a step. Plain: torch's SGD
on the same float network, images from a torchvision DataLoader (random crop, mirror, ToTensor,
Normalize) with 0 or 2 workers, whichever is faster, in the same precision and memory format. Both
train an epoch that is not timed, then one that is. The input paths are also measured alone. Images
are random; rounds alternate which side goes first.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from _random_cifar import MEAN, NETWORKS, STD, half_binary, random_splits
from _results import Figure, Pedigree
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from sqtune.config import TrialConfig
from sqtune.data.batches import Normalize, training_batches
from sqtune.data.split import Split, Splits
from sqtune.networks import build
from sqtune.train.loop import train

LEAST_INPUT_RATIO = 20.0
NUM_WORKERS = (0, 2)
INPUT_REPEATS = 10  # ours passes so often over the images that the DataLoader passes over once
NUM_EPOCHS = 20  # of which two are trained


class PilImages(Dataset[tuple[Tensor, int]]):
    """A split as torchvision's CIFAR-10 gives it out: a PIL image, transformed."""

    def __init__(self, split: Split) -> None:
        from torchvision import transforms

        self.pixels = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def data_loader(split: Split, batch_size: int, num_workers: int, device: torch.device) -> Any:
    return DataLoader(
        PilImages(split),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=device.type == "cuda",
    )


def on_device(loader: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[Any]:
    for images, labels in loader:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def images_per_second(batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Take all batches and do nothing with them."""
    num, started = 0, time.perf_counter()
    for _, labels in batches:
        num += len(labels)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return num / (time.perf_counter() - started)


def our_input(splits: Splits, batch_size: int, device: torch.device, seed: int) -> Iterator[Any]:
    """Yield normalised batches of one epoch, as the training loop takes them."""
    normalize = Normalize(splits.mean, splits.std, device)
    generator = torch.Generator(splits.train.labels.device).manual_seed(seed)
    for images, labels in training_batches(
        splits.train, batch_size, crop_padding=4, mirror=True, device=device, generator=generator
    ):
        yield normalize(images), labels


def our_training(config: TrialConfig, splits: Splits, device: torch.device, threads: int) -> float:
    results = train(config, splits=splits, device=str(device), num_threads=threads)
    _, timed = itertools.islice(results, 2)
    return timed.images_per_second


def plain_training(config: TrialConfig, loader: Any, device: torch.device) -> float:
    """Train the float network for two epochs; return the second one's images a second."""
    compute, on_cuda = config.compute, device.type == "cuda"
    half = compute.precision == "bfloat16" or (compute.precision == "auto" and on_cuda)
    last = compute.channels_last == "on" or (compute.channels_last == "auto" and on_cuda)
    memory_format = torch.channels_last if last else torch.contiguous_format
    torch.manual_seed(config.seed)
    model: nn.Module = build(config.network, 3, 10).to(device, memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(2):
        num, started = 0, time.perf_counter()
        loss_sum = torch.zeros((), device=device)
        for images, labels in on_device(loader, device):
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = model(images.to(memory_format=memory_format))
                loss = functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
            num += len(labels)
        loss_sum.item()  # waits for the device
        speed = num / (time.perf_counter() - started)
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, help="measurements of each; by default 5")
    parser.add_argument("--steps", type=int, help="training steps an epoch; by default 20")
    parser.add_argument("--input-images", type=int, help="by default 12,800")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 steps, 2,560 images")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--seed", type=int, default=0, help="of weights, images and order")
    parser.add_argument("--no-save", action="store_true", help="print only, write no JSON")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 5)
    steps = options.steps or (2 if options.quick else 20)
    num_images = options.input_images or (2560 if options.quick else 12_800)
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    pedigree = Pedigree()
    figures, workers = _input_figures(options, rounds, num_images, device)
    print(f"DataLoader with {workers} workers from here on", flush=True)
    for network in options.networks:
        figures += _training_figures(options, network, rounds, steps, device, workers)
    pedigree.report(
        "train_throughput",
        figures,
        settings={
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": options.threads,
            "batch_size": options.batch_size,
            "rounds": rounds,
            "steps_per_epoch": steps,
            "input_images": num_images,
            "data_loader_workers": workers,
        },
        seeds={"trial.seed": options.seed},
        notes=[
            "a DataLoader's worker is a process of its own, beside torch's threads",
            "ratios are ours over the other, measured in the same round",
        ],
        save=not options.no_save,
    )


def _input_figures(
    options: argparse.Namespace, rounds: int, num_images: int, device: torch.device
) -> tuple[list[Figure], int]:
    """Measure the input paths alone; return the DataLoader's better number of workers too."""
    splits = random_splits(num_images, options.seed).to(device)
    host = random_splits(num_images, options.seed)
    loaders = {num: data_loader(host.train, options.batch_size, num, device) for num in NUM_WORKERS}
    ours: list[float] = []
    theirs: dict[int, list[float]] = {num: [] for num in NUM_WORKERS}
    for number in range(rounds + 1):  # the first one warms up
        for turn in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            if turn == "ours":
                epochs = (
                    our_input(splits, options.batch_size, device, options.seed + repeat)
                    for repeat in range(INPUT_REPEATS)
                )
                ours.append(images_per_second(itertools.chain.from_iterable(epochs), device))
                continue
            for num, loader in loaders.items():
                theirs[num].append(images_per_second(on_device(loader, device), device))
    del loaders
    ours, theirs = ours[1:], {num: speeds[1:] for num, speeds in theirs.items()}
    best = max(NUM_WORKERS, key=lambda num: sum(theirs[num]))
    ratios = [one / max(other) for one, *other in zip(ours, *theirs.values(), strict=True)]
    figures = [
        Figure(
            "input path over the better DataLoader",
            "",
            ratios,
            LEAST_INPUT_RATIO,
            claim="min",
            direction="at least",
        ),
        Figure("input path", "images/s", ours),
    ]
    figures += [
        Figure(f"DataLoader, {num} workers", "images/s", speeds) for num, speeds in theirs.items()
    ]
    return figures, best


def _training_figures(
    options: argparse.Namespace,
    network: str,
    rounds: int,
    steps: int,
    device: torch.device,
    workers: int,
) -> list[Figure]:
    host = random_splits(steps * options.batch_size, options.seed)
    splits = host.to(device)
    config = half_binary(
        network, batch_size=options.batch_size, num_epochs=NUM_EPOCHS, seed=options.seed
    )
    loader = data_loader(host.train, options.batch_size, workers, device)
    ours, plain = [], []
    for number in range(rounds):
        for turn in ("ours", "plain") if number % 2 == 0 else ("plain", "ours"):
            if turn == "ours":
                ours.append(our_training(config, splits, device, options.threads))
            else:
                plain.append(plain_training(config, loader, device))
        print(f"{network}: round {number + 1} of {rounds}", flush=True)
    ratios = [one / other for one, other in zip(ours, plain, strict=True)]
    return [
        Figure(f"{network}, training over plain", "", ratios),
        Figure(f"{network}, training", "images/s", ours),
        Figure(f"{network}, plain", "images/s", plain),
    ]


if __name__ == "__main__":
    main()

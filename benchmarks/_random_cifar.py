"""Random images of CIFAR's size in memory: throughput does not depend on what they show."""

from __future__ import annotations

import torch

from sqtune.config import TrialConfig
from sqtune.data import Cifar
from sqtune.data.split import Split, Splits
from sqtune.networks import Network, ResNet, Vgg9
from sqtune.quant import Binary, Stages

NETWORKS: dict[str, Network] = {
    "resnet20": ResNet("resnet20"),
    "resnet56": ResNet("resnet56"),
    "vgg9": Vgg9(),
}
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
NUM_CLASSES = 10
NUM_EVALUATION = 128  # validation and test images


def random_splits(num_train: int, seed: int) -> Splits:
    """Return splits of random uint8 images, 3 x 32 x 32, with random labels."""
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Split(images, torch.randint(0, NUM_CLASSES, (count,), generator=generator))

    return Splits(
        train=split(num_train),
        validation=split(NUM_EVALUATION),
        test=split(NUM_EVALUATION),
        classes=tuple(str(label) for label in range(NUM_CLASSES)),
        mean=MEAN,
        std=STD,
        fingerprint=f"random {seed}",
    )


def half_binary(network: str, *, batch_size: int, num_epochs: int, seed: int) -> TrialConfig:
    """Return a binary training, half of the filters at a step through its first nine tenths."""
    return TrialConfig(
        data=Cifar(),
        network=NETWORKS[network],
        quantizer=Binary(),
        schedule=Stages(ratios=(0.5, 1.0), starts=(0.0, 0.9)),
        batch_size=batch_size,
        num_epochs=num_epochs,
        seed=seed,
    )

"""The paper's networks: parameters counted, a step at the real input size, golden losses."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sqtune.config import TrialConfig
from sqtune.config.training import Optimizer
from sqtune.data.prepare import prepare
from sqtune.data.split import Split, Splits
from sqtune.networks import AlexNetBn, Network, ResNet, ResNet18, Vgg9, build
from sqtune.quant import Stages, StochasticQuantization, Ternary
from sqtune.train.loop import train


def resnet_parameters(num_blocks: int, num_classes: int) -> int:
    """Count 16-32-64 channels with 2x2 projections: convolutions, batch norms, classifier."""
    stem = 9 * 3 * 16 + 2 * 16
    inside = sum(2 * num_blocks * (9 * n * n + 2 * n) for n in (16, 32, 64))
    fewer = 9 * 32 * 16 + 9 * 64 * 32  # the first convolution of two groups has half the inputs
    projections = 4 * 16 * 32 + 2 * 32 + 4 * 32 * 64 + 2 * 64
    return stem + inside - fewer + projections + 64 * num_classes + num_classes


# At their real input sizes: CIFAR's 32, ImageNet's 224.
PAPER: dict[str, tuple[Network, int, int, int]] = {
    "resnet8": (ResNet("resnet8"), 32, 10, 85_722),
    "resnet20": (ResNet("resnet20"), 32, 10, 280_154),
    "resnet32": (ResNet("resnet32"), 32, 10, 474_586),
    "resnet56": (ResNet("resnet56"), 32, 100, 869_300),
    "resnet110": (ResNet("resnet110"), 32, 10, 1_738_394),
    "vgg9": (Vgg9(), 32, 10, 3_512_778),
    "resnet18": (ResNet18(), 224, 1000, 11_689_512),
    "alexnet_bn": (AlexNetBn(), 224, 1000, 62_387_912),
}


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_as_many_as_the_paper_s_network_has(name):
    network, side, num_classes, expected = PAPER[name]
    if isinstance(network, ResNet):
        assert resnet_parameters((network.depth - 2) // 6, num_classes) == expected
    with torch.device("meta"):  # shapes only
        model = build(network, 3, num_classes, (side, side))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("name", PAPER)
def test_a_quantized_step_at_the_real_input_size_changes_every_layer(name):
    network, side, num_classes, _ = PAPER[name]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(network, 3, num_classes, (side, side))
        images = torch.randn(2, 3, side, side, generator=generator)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        sq = StochasticQuantization(model, Ternary(), generator=generator)
        with sq.hybrid(ratio=0.5):
            logits = model(images)
            loss = functional.cross_entropy(logits, torch.tensor([1, 0]))
            loss.backward()
        optimizer.step()
    assert logits.shape == (2, num_classes)
    assert 0 < loss.item() < 4 * math.log(num_classes)
    for (name_of, after), old in zip(model.named_parameters(), before, strict=True):
        assert after.isfinite().all(), name_of
        assert not torch.equal(after, old), name_of


# Three steps on 32 digits, with 0.5, 0.5 and all of the rows ternary. Losses change when what a
# network or a step computes does; if it was meant to, put the new ones here. In float64 the
# networks show themselves alone: rounding, which differs between CPUs, is amplified by deep ones.
# The later the step, the wider the tolerance: a weight that rounding carries over a threshold makes
# up to 0.1 % of the loss in float64, and 1.4 % in float32 (measured between an EPYC and a Xeon).
RATIOS = (0.5, 0.5, 1.0)
IN_FLOAT64: dict[str, tuple[Network, int, list[float]]] = {
    "resnet8": (ResNet("resnet8"), 1, [2.348691044, 2.338377986, 2.286973640]),
    "resnet20": (ResNet("resnet20"), 1, [2.457570673, 2.448330180, 2.308822734]),
    "resnet32": (ResNet("resnet32", 8), 1, [2.456113126, 2.448144469, 2.418565827]),
    "resnet56": (ResNet("resnet56", 8), 1, [2.980547477, 2.655847906, 2.340169546]),
    "resnet110": (ResNet("resnet110", 4), 1, [3.035074170, 3.126798070, 2.516299135]),
    "vgg9": (Vgg9(width=16), 1, [2.601745402, 2.417802579, 2.493261910]),
    "resnet18": (ResNet18(width=8), 4, [2.610695714, 2.459784791, 2.319413666]),
    "alexnet_bn": (AlexNetBn(width=12), 8, [2.486212581, 2.342998882, 2.330864828]),
}
IN_TRAINING: dict[str, list[float]] = {
    "resnet8": [2.385770, 2.386699, 2.350427],
    "resnet20": [2.386899, 2.434628, 2.411115],
    "resnet32": [2.497961, 2.500020, 2.289378],
    "vgg9": [2.487834, 2.508916, 2.545937],
}


@pytest.fixture(scope="module")
def digits() -> Splits:
    return prepare(TrialConfig().data)


@pytest.fixture
def float64() -> Iterator[None]:
    """Make fresh weights float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def enlarged(images: Tensor, times: int) -> Tensor:
    return images.repeat_interleave(times, 2).repeat_interleave(times, 3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", IN_FLOAT64)
def test_a_network_s_losses_are_those_of_before(name, digits):
    network, times, expected = IN_FLOAT64[name]
    images = enlarged(digits.train.images[:32], times) / 255
    generator = torch.Generator().manual_seed(0)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(network, 1, 10, tuple(images.shape[2:]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
        sq = StochasticQuantization(model, Ternary(), generator=generator)
        for ratio in RATIOS:
            optimizer.zero_grad()
            with sq.hybrid(ratio=ratio):
                loss = functional.cross_entropy(model(images), digits.train.labels[:32])
                loss.backward()
            optimizer.step()
            losses.append(loss.item())
    for loss, before, rel in zip(losses, expected, (1e-6, 1e-6, 2e-3), strict=True):
        assert loss == pytest.approx(before, rel=rel)


@pytest.mark.parametrize("name", IN_TRAINING)
def test_a_training_s_losses_are_those_of_before(name, digits):
    few = [Split(split.images[:32], split.labels[:32]) for split in (digits.train, digits.test)]
    splits = Splits(few[0], few[1], few[1], digits.classes, digits.mean, digits.std, "few")
    config = TrialConfig(
        network=IN_FLOAT64[name][0],
        quantizer=Ternary(),
        schedule=Stages(ratios=(0.5, 1.0), starts=(0.0, 0.67)),
        optimizer=Optimizer(lr=0.02),
        batch_size=32,
        num_epochs=3,
    )
    results = list(train(config, splits=splits, num_threads=1))
    assert tuple(result.ratio for result in results) == RATIOS
    losses = [result.train_loss for result in results]
    for loss, before, rel in zip(losses, IN_TRAINING[name], (1e-4, 3e-3, 3e-2), strict=True):
        assert loss == pytest.approx(before, rel=rel)

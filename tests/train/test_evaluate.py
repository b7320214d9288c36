"""Evaluation: exact error counts, and batch norm that is re-estimated and put back bit for bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from sqtune.config import TrialConfig
from sqtune.data import Digits
from sqtune.data.batches import EVALUATION_BATCH, Normalize
from sqtune.data.prepare import prepare
from sqtune.data.split import Split
from sqtune.networks import ResNet, build
from sqtune.quant import Binary, Float, StochasticQuantization
from sqtune.train.checkpoint import load_network
from sqtune.train.evaluate import error_rate, reestimated_batch_norm, top_errors
from sqtune.train.loop import train

CPU = torch.device("cpu")
IDENTITY = Normalize((0.0,), (1 / 255,), CPU)  # pixels as they are


def numbered(count: int) -> Split:
    """Return images whose first two pixels are the high and the low digit of their number."""
    labels = torch.arange(count)
    images = torch.zeros(count, 1, 1, 2, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = (labels // 256).byte(), (labels % 256).byte()
    return Split(images, labels)


class Recorder(nn.Module):
    """Batch norm over the low digits, with a record of the images that were seen."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.frozen = nn.BatchNorm1d(1, momentum=0.3).eval()
        self.untracked = nn.BatchNorm1d(1, track_running_stats=False)
        self.seen: list[list[int]] = []

    def forward(self, images):
        self.seen.append((images[:, 0, 0, 0] * 256 + images[:, 0, 0, 1]).int().tolist())
        return self.frozen(self.norm(images[:, 0, 0, 1:]))


def snapshot(model: nn.Module):
    buffers = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    momenta = [getattr(module, "momentum", None) for module in model.modules()]
    return buffers, modes, momenta


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize("count", [1, EVALUATION_BATCH, EVALUATION_BATCH + 1, 1700])
def test_the_error_is_the_share_of_wrong_images_in_whole_and_partial_batches(count):
    class Parity(nn.Module):
        """Guess class 1 for odd numbers, else 0."""

        def forward(self, images):
            odd = images[:, 0, 0, 1] % 2
            return torch.stack([1 - odd, odd], dim=1)

    split = Split(numbered(count).images, torch.zeros(count, dtype=torch.int64))
    assert error_rate(Parity(), split, IDENTITY, CPU) == (count // 2) / count


@pytest.mark.parametrize("count", [12, EVALUATION_BATCH + 7])
@pytest.mark.parametrize("num_classes", [10, 11, 100])
def test_top_5_is_whether_the_class_is_among_five_of_more_than_ten(num_classes, count):
    class Descending(nn.Module):
        """Hold the class of the low digit for the likeliest, then the next ones in a circle."""

        def forward(self, images):
            classes = torch.arange(num_classes)
            return -((classes - images[:, 0, 0, 1:]) % num_classes)

    images, numbers = numbered(count).images, torch.arange(count)
    ranks = numbers % num_classes  # of each image's class, 0 the likeliest
    split = Split(images, (numbers % 256 + ranks) % num_classes)
    top1, top5 = top_errors(Descending(), split, IDENTITY, CPU)
    assert top1 == (ranks > 0).sum() / count
    assert top5 == (None if num_classes == 10 else pytest.approx(float((ranks >= 5).sum() / count)))


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_changes_neither_statistics_nor_mode_nor_gradients(training):
    model = build(ResNet("resnet8", 2), 1, 10).train(training)
    splits = prepare(Digits())
    before = snapshot(model)
    error_rate(model, splits.validation, Normalize(splits.mean, splits.std, CPU), CPU)
    assert_same(before, snapshot(model))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_uses_the_stored_statistics():
    model = Recorder().train()
    seen = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(module.training))
    error_rate(model, Split(numbered(9).images, torch.zeros(9, dtype=torch.int64)), IDENTITY, CPU)
    assert seen == [False]


@pytest.mark.parametrize(
    ("num_images", "batch_size", "num_batches", "images_a_batch"),
    [
        (1078, 64, 4, 64),  # a quarter of 1078 is 269
        (1078, 128, 2, 128),
        (1078, 2, 30, 2),  # never more than 30
        (1078, 400, 1, 400),  # at least one
        (100, 1000, 1, 100),  # of the images there are
        (960, 8, 30, 8),
        (959, 8, 29, 8),
    ],
)
def test_at_most_30_batches_and_a_quarter_of_the_images_are_read_spread_evenly(
    num_images, batch_size, num_batches, images_a_batch
):
    model = Recorder()
    with reestimated_batch_norm(
        model, numbered(num_images), IDENTITY, batch_size=batch_size, device=CPU
    ):
        pass
    assert [len(batch) for batch in model.seen] == [images_a_batch] * num_batches
    images = sorted(number for batch in model.seen for number in batch)
    assert len(set(images)) == len(images)
    steps = {later - earlier for earlier, later in itertools.pairwise(images)}
    assert steps == {num_images // len(images)}


def test_the_statistics_are_the_plain_averages_of_the_batches():
    model = Recorder()
    with reestimated_batch_norm(model, numbered(800), IDENTITY, batch_size=25, device=CPU):
        batches = [torch.tensor(batch).double() % 256 for batch in model.seen]
        assert len(batches) == 8
        mean = sum(batch.mean() for batch in batches) / 8
        variance = sum(batch.var() for batch in batches) / 8
        assert float(model.norm.running_mean) == pytest.approx(float(mean), rel=1e-5)
        assert float(model.norm.running_var) == pytest.approx(float(variance), rel=1e-5)


def test_inside_everything_evaluates():
    model = Recorder().train()
    with reestimated_batch_norm(model, numbered(80), IDENTITY, batch_size=8, device=CPU):
        assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_statistics_momenta_and_modes_are_put_back_bit_for_bit(fails):
    model = Recorder().train()
    model.frozen.eval()  # a model may have parts in either mode
    model.norm.running_mean.fill_(1 / 3)
    model.norm.num_batches_tracked.fill_(17)
    before = snapshot(model)
    try:
        with reestimated_batch_norm(model, numbered(80), IDENTITY, batch_size=8, device=CPU):
            assert not torch.equal(model.norm.running_mean, before[0]["norm.running_mean"])
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert_same(before, snapshot(model))


def test_statistics_are_put_back_when_the_model_itself_fails():
    model = Recorder().train()
    before = snapshot(model)
    broken = Split(torch.zeros(8, 1, 1, 1, dtype=torch.uint8), torch.zeros(8))
    with (
        pytest.raises(IndexError),
        reestimated_batch_norm(model, broken, IDENTITY, batch_size=2, device=CPU),
    ):
        pass
    assert_same(before, snapshot(model))


def test_a_network_that_was_just_quantized_needs_statistics_of_its_own(tmp_path):
    splits = prepare(Digits())
    settings = TrialConfig(
        network=ResNet("resnet8", 8),
        quantizer=Float(),
        batch_size=64,
        num_epochs=6,
    )
    *_, last = train(settings, splits=splits, num_threads=1, save_to=tmp_path / "network")
    assert last.val_error < 0.3
    saved = load_network(tmp_path / "network")
    normalize = Normalize(splits.mean, splits.std, CPU)
    with StochasticQuantization(saved.model, Binary()).quantized():
        stale = error_rate(saved.model, splits.validation, normalize, CPU)
        with reestimated_batch_norm(
            saved.model, splits.train, normalize, batch_size=64, device=CPU
        ):
            own = error_rate(saved.model, splits.validation, normalize, CPU)
    assert own < stale - 0.1

"""The average of the weights: step by step by hand, and it is what is measured and delivered."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from staged import WARM_UP, config
from torch import Tensor, nn

from sqtune.config.training import Constant, Distillation, Ema, Optimizer
from sqtune.data import Digits
from sqtune.networks import ResNet, build
from sqtune.quant import Binary, Float, LearnedUniform, Stages, Ternary
from sqtune.train.average import Average
from sqtune.train.checkpoint import load_codes, load_network, load_weights
from sqtune.train.loop import saved_error, train
from sqtune.train.optim import Sgd
from sqtune.train.training import Training

CPU = torch.device("cpu")
CONSTANT = Optimizer(lr=0.05, schedule=Constant())


def figures(results) -> list:
    return [dataclasses.replace(result, images_per_second=0.0) for result in results]


def by_hand(decay: float, first: list[Tensor], steps: list[list[Tensor]]) -> list[Tensor]:
    """Return the average of weights after each step, in float64."""
    average = [value.double() for value in first]
    for number, weights in enumerate(steps):
        kept = min(decay, (1 + number) / (10 + number))
        average = [
            kept * old + (1 - kept) * new.double()
            for old, new in zip(average, weights, strict=True)
        ]
    return average


def trained(digits, monkeypatch, last: int, **changes):
    """Return a training, its weights at the start, and after each step: the network's, learned."""
    steps = []
    plain = Sgd.step

    def recorded(self):
        plain(self)
        steps.append([[p.detach().clone() for p in group["params"]] for group in self.param_groups])

    training = Training(config(**changes), digits, CPU)
    first = [p.detach().clone() for p in training.model.parameters()]
    with monkeypatch.context() as patch:
        patch.setattr(Sgd, "step", recorded)
        for epoch in range(1, last + 1):
            training.run_epoch(epoch)
    return training, first, steps


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.detach().double(), other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.999])
def test_the_average_is_the_formula_s_over_all_stages(digits, monkeypatch, decay):
    changes = {"ema": Ema(decay=decay), "schedule": Stages((0.5, 1.0)), "quantizer": Ternary()}
    training, first, steps = trained(digits, monkeypatch, 4, **changes)
    assert len(steps) == 16
    own = [p.detach().clone() for p in training.model.parameters()]
    expected = by_hand(decay, first, [weights for [weights] in steps])
    with training.average.in_place():
        close(training.model.parameters(), expected)
    assert all(torch.equal(a, b) for a, b in zip(own, training.model.parameters(), strict=True))


def test_learned_steps_and_ceilings_join_after_their_first_step(digits, monkeypatch):
    changes = {
        "ema": Ema(decay=0.6),
        "schedule": WARM_UP,
        "quantizer": LearnedUniform(2),
        "activation_bits": 4,
        "activation_clipping": "pact",
    }
    training, *_ = trained(digits, monkeypatch, 2, **changes)
    assert training.state_dict(2)["average"]["learned"] == []
    training, first, steps = trained(digits, monkeypatch, 4, **changes)
    assert len(steps) == 16
    with training.average.in_place():
        close(training.model.parameters(), by_hand(0.6, first, [each for each, _ in steps]))
        learned = [[value.double().abs() for value in each] for _, each in steps[8:]]
        average = learned[0]
        for number, values in enumerate(learned[1:], 9):  # after 9 steps and more
            kept = min(0.6, (1 + number) / (10 + number))
            average = [kept * a + (1 - kept) * b for a, b in zip(average, values, strict=True)]
        assert len(average) > 10
        close(training.quantization.parameters(), average)
    assert not torch.equal(training.quantization.parameters()[0].double(), average[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": WARM_UP, "quantizer": LearnedUniform(3), "activation_bits": 4},
        {"optimizer": Optimizer(name="adamw", lr=0.01)},
    ],
    ids=str,
)
def test_the_weights_that_are_trained_are_none_the_wiser(digits, changes):
    plain = figures(train(config(**changes), splits=digits, num_threads=1))
    kept = figures(train(config(ema=Ema(decay=0.9), **changes), splits=digits, num_threads=1))
    assert [each.train_loss for each in kept] == [each.train_loss for each in plain]
    assert [each.val_error_hybrid for each in kept] != [each.val_error_hybrid for each in plain]


class Reference:
    """Batch norm statistics and errors of a network, in plain torch."""

    def __init__(self, digits, model: nn.Module, batch_size: int) -> None:
        self.digits, self.model, self.batch_size = digits, model, batch_size

    def inputs(self, images: Tensor) -> Tensor:
        return (images / 255 - self.digits.mean[0]) / self.digits.std[0]

    def take_statistics(self) -> None:
        num_batches = len(self.digits.train) // 4 // self.batch_size
        stride = len(self.digits.train) // (num_batches * self.batch_size)
        for norm in (each for each in self.model.modules() if isinstance(each, nn.BatchNorm2d)):
            norm.reset_running_stats()
            norm.momentum = None
        self.model.train()
        with torch.no_grad():
            for first in range(num_batches):
                ids = slice(first * stride, None, num_batches * stride)
                self.model(self.inputs(self.digits.train.images[ids][: self.batch_size]))

    def error(self) -> float:
        with torch.no_grad():
            logits = self.model.eval()(self.inputs(self.digits.validation.images))
        wrong = logits.argmax(dim=1) != self.digits.validation.labels
        return int(wrong.sum()) / len(wrong)


def averaged_by_hand(digits, first, steps, *, binary: bool) -> Reference:
    model = build(ResNet("resnet8", 2), 1, 10)
    with torch.no_grad():
        averages = by_hand(0.7, first, [weights for [weights] in steps])
        for parameter, average in zip(model.parameters(), averages, strict=True):
            parameter.copy_(average)
            if binary and parameter.ndim > 1:
                rows = parameter.flatten(1)
                scales = rows.abs().mean(dim=1, keepdim=True)
                parameter.copy_(torch.where(rows >= 0, scales, -scales).view(parameter.shape))
    reference = Reference(digits, model, 64)
    reference.take_statistics()
    return reference


@pytest.mark.parametrize("quantizer", [Float(), Binary()], ids=str)
def test_what_is_measured_and_delivered_is_the_quantized_average(
    digits, monkeypatch, tmp_path, quantizer
):
    changes = {
        "data": Digits(crop_padding=0),
        "batch_size": 64,
        "ema": Ema(decay=0.7),
        "schedule": Stages(),
        "quantizer": quantizer,
        "optimizer": CONSTANT,
        "num_epochs": 3,
    }
    *_, last = train(config(**changes), splits=digits, num_threads=1, save_to=tmp_path / "net")
    _, first, steps = trained(digits, monkeypatch, 3, **changes)
    is_binary = isinstance(quantizer, Binary)
    reference = averaged_by_hand(digits, first, steps, binary=is_binary)
    assert last.val_error == pytest.approx(reference.error(), abs=1.5 / len(digits.validation))
    assert saved_error(tmp_path / "net", digits, "validation") == last.val_error
    average = by_hand(0.7, first, [weights for [weights] in steps])
    close(load_network(tmp_path / "net").model.parameters(), average)
    weights = load_weights(tmp_path / "net")
    for name, value in reference.model.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
    codes = load_codes(tmp_path / "net")
    assert len(codes) == (0 if quantizer == Float() else 10)
    for name, layer in codes.items():
        assert torch.equal(layer.values() > 0, weights[name] >= 0)


def test_the_errors_of_a_hybrid_network_are_the_average_s_too(digits):
    changes = {"schedule": Stages((0.5, 1.0)), "quantizer": Binary(), "optimizer": CONSTANT}
    training = Training(config(ema=Ema(decay=0.7), **changes), digits, CPU)
    result = training.run_epoch(1)
    with training.average.in_place(), training.quantization.hybrid(ratio=0.5, redraw=False):
        reference = Reference(digits, copy.deepcopy(training.model), 256)
        assert result.val_error_hybrid == pytest.approx(reference.error(), abs=0.005)
    with training.average.in_place():
        error, _ = training.history.add(training.quantization.diagnostics())
    assert result.quantization_error == error


def test_its_own_teacher_is_the_average_at_the_end_of_the_warm_up(digits):
    changes = {"schedule": WARM_UP, "distillation": Distillation(weight=0.5)}
    training = Training(config(ema=Ema(decay=0.7), **changes), digits, CPU)
    training.run_epoch(1), training.run_epoch(2)
    with training.average.in_place():
        expected = {key: value.clone() for key, value in training.model.state_dict().items()}
    training.run_epoch(3)
    teacher = training.state_dict(3)["teacher"]
    for key, value in expected.items():
        assert torch.equal(teacher[key], value)
    reference = Reference(digits, build(ResNet("resnet8", 2), 1, 10), 256)
    reference.model.load_state_dict(teacher)
    before = {key: value.clone() for key, value in teacher.items() if "running" in key}
    reference.take_statistics()
    after = reference.model.state_dict()
    for key, value in before.items():  # of the average as a float network
        torch.testing.assert_close(after[key], value, rtol=1e-3, atol=1e-4)


def test_without_a_decay_nothing_is_kept():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(0.0, model, [])
    average.step(quantized=True)
    before = model[0].weight.detach().clone()
    with average.in_place():
        assert torch.equal(model[0].weight, before)
    assert not average.is_kept
    assert average.state_dict() is None
    average.load_state_dict(None)


def test_steps_that_change_their_sign_are_averaged_as_what_they_mean():
    learned = nn.Parameter(torch.tensor([2.0, 3.0]))
    average = Average(0.1, nn.Linear(2, 2), [learned])
    average.step(quantized=True)
    with torch.no_grad():
        learned.copy_(torch.tensor([-4.0, 5.0]))
    average.step(quantized=True)  # 0.1 of the old, 0.9 of the new
    with average.in_place():
        torch.testing.assert_close(learned.detach(), torch.tensor([3.8, 4.8]))
    assert learned.tolist() == [-4, 5]


def test_own_weights_come_back_whatever_happens_in_the_block():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(0.9, model, [])
    with torch.no_grad():
        model[0].weight.add_(1)
    own = model[0].weight.detach().clone()
    seen = []

    def fail():
        seen.append(model[0].weight.detach().clone())
        model[1].running_mean.add_(5)
        raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"), average.in_place():
        fail()
    torch.testing.assert_close(seen[0], own - 1)
    assert torch.equal(model[0].weight, own)
    assert torch.equal(model[1].running_mean, torch.zeros(2))


def test_another_model_s_average_is_refused():
    state = Average(0.9, nn.Linear(2, 2), []).state_dict()
    with pytest.raises(RuntimeError, match="size"):
        Average(0.9, nn.Linear(3, 3), []).load_state_dict(state)
    with pytest.raises(ValueError, match="longer"):
        Average(0.9, nn.Linear(2, 2, bias=False), []).load_state_dict(state)

"""Distillation: the loss by hand, who teaches when, and nothing at all with weight 0."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from sqtune.config import TrialConfig
from sqtune.config.training import Compute, Distillation, Start
from sqtune.data.batches import Normalize
from sqtune.errors import StoreError
from sqtune.networks import ResNet, build
from sqtune.quant import Average, Binary, Float, Stages
from sqtune.train.checkpoint import load_network
from sqtune.train.compute import computing_on
from sqtune.train.distill import SoftTargets, soft_loss
from sqtune.train.loop import train

CPU = torch.device("cpu")
NETWORK = ResNet("resnet8", 2)
WARM_UP = Stages(ratios=(0.0, 0.5, 1.0))


def config(**changes) -> TrialConfig:
    values = {"network": NETWORK, "batch_size": 256, "num_epochs": 3, **changes}
    return TrialConfig(**values)


def network(seed: int, spec: ResNet = NETWORK, num_classes: int = 10) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec, 1, num_classes)


def soft_targets(digits, model: nn.Module, **changes) -> SoftTargets:
    computing = computing_on(CPU, Compute())
    inputs = computing.inputs(digits.mean, digits.std)
    return SoftTargets(config(**changes), model, digits, inputs, computing)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """Return T**2 * KL(teacher || student), averaged over rows, term by term in float64."""
    p = (teacher.double() / temperature).softmax(dim=1)
    q = (student.double() / temperature).softmax(dim=1)
    return float(temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean())


LOGITS = st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=1, max_size=5)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(one=LOGITS, other=LOGITS, temperature=st.floats(0.5, 20))
def test_the_soft_loss_is_the_divergence_from_teacher_to_student(one, other, temperature):
    num = min(len(one), len(other))
    student, teacher = torch.tensor(one[:num]).float(), torch.tensor(other[:num]).float()
    loss = float(soft_loss(student, teacher, temperature))
    assert loss == pytest.approx(divergence(student, teacher, temperature), rel=1e-3, abs=1e-4)
    assert float(soft_loss(teacher, teacher + 1, temperature)) == pytest.approx(0, abs=1e-4)


def test_the_soft_gradient_keeps_its_size_at_a_high_temperature():
    teacher = torch.tensor([[1.0, -2.0, 0.5, 0.5]])
    student = torch.zeros(1, 4, requires_grad=True)
    soft_loss(student, teacher, 100.0).backward()
    assert torch.allclose(student.grad, -teacher / 4, atol=0.02)  # Hinton et al., eq. 4


def figures(digits, **changes):
    results = train(config(**changes), splits=digits, num_threads=1)
    return [dataclasses.replace(result, images_per_second=0.0) for result in results]


def test_weight_0_reads_no_teacher_and_changes_no_bit(digits, monkeypatch):
    plain = figures(digits, schedule=WARM_UP)
    monkeypatch.setattr("sqtune.train.distill.copy", None)
    nowhere = Distillation(weight=0.0, teacher="/no/such/teacher.pt")
    assert figures(digits, schedule=WARM_UP, distillation=nowhere) == plain


def test_soft_targets_act_from_the_end_of_the_warm_up_on_and_repeatably(digits):
    plain = figures(digits, schedule=WARM_UP)
    taught = figures(digits, schedule=WARM_UP, distillation=Distillation(weight=0.5))
    assert taught[0] == plain[0]
    assert taught[1].train_loss != plain[1].train_loss
    assert figures(digits, schedule=WARM_UP, distillation=Distillation(weight=0.5)) == taught


def test_the_teacher_is_the_network_at_the_end_of_its_warm_up(digits):
    model = network(1)
    with torch.no_grad():
        model(torch.rand(64, 1, 8, 8))  # running statistics that are not the initial ones
    soft = soft_targets(digits, model, schedule=WARM_UP, distillation=Distillation(weight=0.25))
    images = digits.train.images[:64]
    inputs = Normalize(digits.mean, digits.std, CPU)(images)
    logits, hard = torch.randn(64, 10), torch.tensor(2.0)
    soft.begin_epoch(0.0, model)
    assert soft.loss(hard, logits, images) is hard
    soft.begin_epoch(0.5, model)
    with torch.no_grad():
        expected = 0.75 * 2.0 + 0.25 * divergence(logits, model.eval()(inputs), 4.0)
        for parameter in model.train().parameters():  # the student goes on
            parameter.add_(1.0)
    soft.begin_epoch(1.0, model)
    assert float(soft.loss(hard, logits, images)) == pytest.approx(expected, rel=1e-5)
    assert not soft.loss(hard, logits, images).requires_grad


def test_without_a_warm_up_the_teacher_is_what_the_network_started_from(digits, tmp_path):
    torch.save(network(1).state_dict(), tmp_path / "net.pt")
    start = Start(weights=str(tmp_path / "net.pt"))
    distillation = Distillation(weight=1.0, temperature=2.0)
    soft = soft_targets(digits, network(1), start=start, distillation=distillation)
    images = digits.train.images[:32]
    with torch.no_grad():
        teacher = network(1).eval()(Normalize(digits.mean, digits.std, CPU)(images))
    logits = torch.randn(32, 10)
    loss = float(soft.loss(torch.tensor(3.0), logits, images))
    assert loss == pytest.approx(divergence(logits, teacher, 2.0), rel=1e-5)
    changes = {"start": start, "distillation": distillation}
    assert figures(digits, **changes)[0] != figures(digits, start=start)[0]


@pytest.mark.parametrize("quantizer", [Float(), Binary()], ids=str)
def test_a_folder_teaches_what_was_measured_with_its_own_network_and_normalisation(
    digits, tmp_path, quantizer
):
    other = ResNet("resnet8", 3)
    shifted = dataclasses.replace(digits, mean=(0.5,), std=(0.25,))
    trained = config(network=other, quantizer=quantizer, num_epochs=1)
    list(train(trained, splits=shifted, num_threads=1, save_to=tmp_path / "teacher"))
    distillation = Distillation(weight=1.0, teacher=str(tmp_path / "teacher"))
    soft = soft_targets(digits, network(1), distillation=distillation)
    images = digits.train.images[:32]
    saved = load_network(tmp_path / "teacher")
    with torch.no_grad(), saved.quantization.quantized():
        teacher = saved.model(Normalize((0.5,), (0.25,), CPU)(images))
    logits = torch.randn(32, 10)
    loss = float(soft.loss(torch.tensor(3.0), logits, images))
    assert loss == pytest.approx(divergence(logits, teacher, 4.0), rel=1e-5)


def test_a_weights_file_teaches_with_the_student_s_network(digits, tmp_path):
    torch.save(network(7).state_dict(), tmp_path / "net.pt")
    student = network(1)
    distillation = Distillation(weight=1.0, teacher=str(tmp_path / "net.pt"))
    soft = soft_targets(digits, student, schedule=WARM_UP, distillation=distillation)
    images = digits.train.images[:32]
    with torch.no_grad():
        teacher = network(7).eval()(Normalize(digits.mean, digits.std, CPU)(images))
    logits = torch.randn(32, 10)
    loss = float(soft.loss(torch.tensor(3.0), logits, images))
    assert loss == pytest.approx(divergence(logits, teacher, 4.0), rel=1e-5)
    torch.testing.assert_close(student.state_dict(), network(1).state_dict(), rtol=0, atol=0)


def test_training_with_a_teacher_is_a_literal_loop(digits, tmp_path):
    torch.save(network(7).state_dict(), tmp_path / "net.pt")
    torch.save(network(1).state_dict(), tmp_path / "start.pt")
    changes = {
        "start": Start(weights=str(tmp_path / "start.pt")),
        "distillation": Distillation(weight=0.4, teacher=str(tmp_path / "net.pt")),
        "quantizer": Float(),
        "batch_size": 1078,  # one step: no order, no update before the loss
        "num_epochs": 1,
    }
    data = config().data
    whole = dataclasses.replace(data, crop_padding=0)
    [result] = figures(digits, data=whole, **changes)
    with torch.no_grad():
        inputs = Normalize(digits.mean, digits.std, CPU)(digits.train.images)
        logits, teacher = network(1)(inputs), network(7).eval()(inputs)
        hard = float(functional.cross_entropy(logits, digits.train.labels))
    expected = 0.6 * hard + 0.4 * divergence(logits, teacher, 4.0)
    assert len(digits.train) <= 1078
    assert result.train_loss == pytest.approx(expected, rel=1e-5)


def test_a_teacher_that_does_not_suit_the_data_or_the_network_is_refused(digits, tmp_path):
    list(train(config(num_epochs=1), splits=digits, save_to=tmp_path / "teacher"))
    folder = Distillation(weight=0.5, teacher=str(tmp_path / "teacher"))
    others = dataclasses.replace(digits, classes=(*digits.classes[:-1], "ten"))
    with pytest.raises(StoreError, match=r"distillation.teacher: .*other classes"):
        soft_targets(others, network(1), distillation=folder)
    torch.save(network(1, num_classes=7).state_dict(), tmp_path / "net.pt")
    file = Distillation(weight=0.5, teacher=str(tmp_path / "net.pt"))
    with pytest.raises(StoreError, match=r"distillation.teacher: .*head.weight") as caught:
        soft_targets(digits, network(1), distillation=file)
    assert "fresh" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": Average(warmup=0.2)},  # shorter than an epoch: passed over
        {"start": Start(weights="net.pt", fresh=("head",))},
        {"num_epochs": 1, "schedule": WARM_UP},
    ],
    ids=str,
)
def test_soft_targets_without_a_teacher_are_refused_with_three_remedies(changes):
    with pytest.raises(ValidationError) as caught:
        config(distillation=Distillation(weight=0.5), **changes)
    for remedy in ("distillation.teacher", "start.weights", "schedule.warmup"):
        assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"distillation": Distillation(weight=0.5, teacher="net.pt")},
        {"distillation": Distillation(weight=0.5), "schedule": Average(warmup=0.34)},
        {"distillation": Distillation(weight=0.5), "start": Start(weights="net.pt")},
        {"distillation": Distillation(weight=0.0)},
    ],
    ids=str,
)
def test_soft_targets_with_a_teacher_are_a_configuration(changes):
    assert config(**changes).distillation == changes["distillation"]

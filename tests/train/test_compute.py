"""Precision, memory format and torch.compile: the same training, nearly the same numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sqtune.config import TrialConfig
from sqtune.config.training import Compute, Distillation, Ema, Optimizer, Regularization
from sqtune.networks import ResNet, build
from sqtune.quant import Binary, Stages
from sqtune.train.checkpoint import WEIGHTS, load_network
from sqtune.train.compute import computing_on
from sqtune.train.loop import saved_error, train

ROOT = Path(__file__).parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def config(compute: Compute, **changes) -> TrialConfig:
    values = {
        "network": ResNet("resnet8", 4),
        "quantizer": Binary(),
        "optimizer": Optimizer(lr=0.05),
        "batch_size": 128,
        "num_epochs": 3,
        "compute": compute,
        **changes,
    }
    return TrialConfig(**values)


def losses(digits, compute: Compute, device: str = "cpu", **changes) -> list[float]:
    results = train(config(compute, **changes), splits=digits, device=device, num_threads=1)
    return [result.train_loss for result in results]


@pytest.mark.parametrize(
    ("device", "supported", "compute", "bfloat16", "channels_last"),
    [
        (CPU, True, Compute(), False, False),
        (CPU, True, Compute(precision="bfloat16", channels_last="on"), True, True),
        (CUDA, True, Compute(), True, True),
        (CUDA, False, Compute(), False, True),
        (CUDA, False, Compute(precision="bfloat16"), True, True),
        (CUDA, True, Compute(precision="float32", channels_last="off"), False, False),
    ],
)
def test_auto_is_decided_by_the_device(
    monkeypatch, device, supported, compute, bfloat16, channels_last
):
    # The answer of a device that this machine may not have.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    computing = computing_on(device, compute)
    assert computing.bfloat16 == bfloat16
    assert (computing.memory_format == torch.channels_last) == channels_last


def test_channels_last_holds_for_images_and_weights():
    computing = computing_on(CPU, Compute(channels_last="on"))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    pointers = [id(parameter) for parameter in model.parameters()]
    assert computing.place(model) is model
    assert [id(parameter) for parameter in model.parameters()] == pointers
    images = computing.inputs((0.5,) * 3, (0.5,) * 3)(torch.zeros(2, 3, 5, 5, dtype=torch.uint8))
    for tensor in (model[0].weight, images):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


def test_float32_contiguous_is_the_default_on_cpu_to_the_bit(digits):
    explicit = Compute(precision="float32", channels_last="off", compile="off")
    assert losses(digits, explicit) == losses(digits, Compute())


@pytest.mark.parametrize(
    ("compute", "tolerance"),
    [
        (Compute(channels_last="on"), 2e-3),
        (Compute(precision="bfloat16"), 0.05),
        (Compute(precision="bfloat16", channels_last="on"), 0.05),
    ],
    ids=["channels_last", "bfloat16", "both"],
)
def test_training_is_nearly_the_same_and_what_is_saved_is_plain(
    digits, tmp_path, compute, tolerance
):
    plain = losses(digits, Compute())
    *first, last = train(config(compute), splits=digits, num_threads=1, save_to=tmp_path / "net")
    found = [result.train_loss for result in (*first, last)]
    assert found == pytest.approx(plain, rel=tolerance)
    if compute.precision == "bfloat16":
        assert found != plain
    assert saved_error(tmp_path / "net", digits, "validation") == last.val_error
    plain_state = build(ResNet("resnet8", 4), 1, 10).state_dict()
    with safe_open(tmp_path / "net" / WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == set(plain_state)
    for key, value in load_network(tmp_path / "net").model.state_dict().items():
        assert value.dtype == plain_state[key].dtype
        assert value.is_contiguous()


def test_a_compiled_network_trains_alike_in_one_graph_and_keeps_its_keys(digits, tmp_path):
    network = {"network": ResNet("resnet8", 1), "batch_size": 256, "schedule": Stages((0.5, 1.0))}
    plain = losses(digits, Compute(), num_epochs=2, **network)
    settings = config(Compute(compile="default"), num_epochs=2, **network)
    torch._dynamo.utils.counters.clear()
    results = list(train(settings, splits=digits, num_threads=1, save_to=tmp_path / "net"))
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
    assert [result.train_loss for result in results] == pytest.approx(plain, rel=2e-3)
    with safe_open(tmp_path / "net" / WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == set(build(ResNet("resnet8", 1), 1, 10).state_dict())
    saved = saved_error(tmp_path / "net", digits, "validation")
    assert saved == pytest.approx(results[-1].val_error, abs=0.01)


def test_a_teacher_is_compiled_beside_its_student(digits):
    changes = {
        "network": ResNet("resnet8", 1),
        "batch_size": 256,
        "schedule": Stages((0.0, 0.5, 1.0)),  # the teacher comes to the second epoch
        "distillation": Distillation(weight=0.5),
    }
    plain = losses(digits, Compute(), num_epochs=3, **changes)
    torch._dynamo.utils.counters.clear()
    compiled = losses(digits, Compute(compile="default"), num_epochs=3, **changes)
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 2  # student and teacher
    assert compiled == pytest.approx(plain, rel=2e-3)


def test_the_compiler_is_imported_only_when_asked_for():
    code = """
import sys
from sqtune.config import TrialConfig
from sqtune.config.training import Compute, Distillation, Ema, Optimizer, Regularization
from sqtune.networks import ResNet
from sqtune.quant import Stages
from sqtune.train.loop import train

config = TrialConfig(
    network=ResNet("resnet8", 1), schedule=Stages((0.0, 0.5, 1.0)), batch_size=1024, num_epochs=3,
    optimizer=Optimizer(restarts="stage", nesterov=True), distillation=Distillation(weight=0.5),
    regularization=Regularization(label_smoothing=0.1, mixup=0.2, cutout=2, random_erasing=0.5),
    ema=Ema(decay=0.9),
    compute=Compute(precision="bfloat16", channels_last="on"),
)
list(train(config, num_threads=1))
found = [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))]
assert not found, found
import torch._dynamo
assert "torch._dynamo" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class HostReads(TorchDispatchMode):
    """Counts how often a tensor's value is asked for, which waits for the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        self.count += function.overloadpacket in waits
        return function(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device(digits):
    def reads(batch_size):
        changes = {
            "schedule": Stages((0.0, 0.5, 1.0)),
            "distillation": Distillation(weight=0.5),
            "regularization": Regularization(
                label_smoothing=0.1, mixup=0.2, cutout=2, random_erasing=0.5
            ),
            "ema": Ema(decay=0.9),
        }
        settings = config(Compute(precision="bfloat16"), batch_size=batch_size, **changes)
        with HostReads() as mode:
            list(train(settings, splits=digits, num_threads=1))
        return mode.count

    # 8 steps an epoch, and 2; a hybrid step looks whether weights are finite, but only on CPU
    assert reads(128) - reads(512) == (8 - 2) * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_trains_alike(digits):
    changes = {"num_epochs": 2, "schedule": Stages()}  # ratio 1: nothing is drawn
    plain = losses(digits, Compute(), **changes)
    exact = Compute(precision="float32")
    assert losses(digits, exact, "cuda", **changes) == pytest.approx(plain, rel=0.02)
    assert losses(digits, Compute(), "cuda", **changes) == pytest.approx(plain, rel=0.1)

"""The law of stages: alone, shared or resumed, a training is the same, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from staged import WARM_UP, config, session
from torch import nn

from sqtune.config.training import (
    Compute,
    Constant,
    Distillation,
    Ema,
    Optimizer,
    Regularization,
    Start,
)
from sqtune.config.trial import Override
from sqtune.networks import ResNet, build
from sqtune.quant import (
    Binary,
    Exponential,
    Float,
    LearnedTernary,
    LearnedUniform,
    Linear,
    Selection,
    Stages,
    Ternary,
    Uniform,
)
from sqtune.train.checkpoint import ABOUT, CODES, WEIGHTS
from sqtune.train.history import LAYERS
from sqtune.train.loop import train


def figures(results) -> list:
    """Leave out what the clock measures, and who trained."""
    return [dataclasses.replace(r, images_per_second=0.0, restored=False) for r in results]


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (WEIGHTS, CODES, LAYERS)}


def described(folder: Path) -> dict:
    content = json.loads((folder / ABOUT).read_text())
    assert content["about"]["result"].pop("images_per_second") > 0
    return content


CASES = {
    "binary": {},
    "ternary, a row's own threshold, from a warm-up": {
        "quantizer": Ternary("row"),
        "schedule": WARM_UP,
    },
    "uniform, a rate that starts anew, stages of two epochs": {
        "quantizer": Uniform(3),
        "schedule": Exponential(num_stages=2),
        "optimizer": Optimizer(restarts="stage"),
    },
    "learned steps and clipping from a warm-up": {
        "quantizer": LearnedUniform(2),
        "activation_bits": 4,
        "schedule": WARM_UP,
    },
    "learned ternary, ceilings, AdamW from a warm-up": {
        "quantizer": LearnedTernary(),
        "activation_bits": 2,
        "activation_clipping": "pact",
        "optimizer": Optimizer(name="adamw", lr=0.01),
        "schedule": WARM_UP,
    },
    "learned steps from the start, a rule, a float layer": {
        "quantizer": LearnedUniform(4),
        "overrides": (Override(match="head", quantizer=Uniform(8)),),
        "keep_float": ("stem",),
    },
    "its own teacher": {
        "distillation": Distillation(weight=0.5),
        "schedule": WARM_UP,
        "activation_bits": 8,
    },
    "single weights": {
        "selection": Selection(granularity="element"),
        "schedule": Exponential(num_stages=2),
    },
    "a fixed partition": {
        "selection": Selection("softmax", strategy="fixed"),
        "schedule": Exponential(num_stages=2),
    },
    "the smallest errors, at a constant rate": {
        "selection": Selection(strategy="deterministic"),
        "optimizer": Optimizer(lr=0.02, momentum=0.0, schedule=Constant()),
    },
    "the whole recipe, learned steps and ceilings, its own average teaches": {
        "quantizer": LearnedUniform(2),
        "activation_bits": 4,
        "activation_clipping": "pact",
        "schedule": WARM_UP,
        "distillation": Distillation(weight=0.5),
        "ema": Ema(decay=0.9),
        "regularization": Regularization(
            label_smoothing=0.1, mixup=0.4, cutout=2, random_erasing=0.5
        ),
        "optimizer": Optimizer(nesterov=True, decay="weights", warmup=0.3, restarts="stage"),
    },
    "an average through the stages, AdamW": {
        "schedule": Exponential(num_stages=2),
        "ema": Ema(decay=0.99),
        "optimizer": Optimizer(name="adamw", lr=0.01, decay="weights"),
    },
    "a ratio that rises": {"schedule": Linear(warmup=0.25)},
    "float": {"quantizer": Float()},
    "bfloat16, channels last": {
        "compute": Compute(precision="bfloat16", channels_last="on"),
        "schedule": Exponential(num_stages=2),
    },
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_alone_stored_and_resumed_after_any_epoch_it_is_the_same(digits, tmp_path, changes):
    settings = config(**changes)
    alone = figures(train(settings, splits=digits, num_threads=1, save_to=tmp_path / "alone"))
    stored = []
    for result in train(
        settings,
        splits=digits,
        num_threads=1,
        save_to=tmp_path / "stored",
        stages=session(tmp_path / "stages"),
    ):
        stored.append(result)
        shutil.copytree(tmp_path / "stages", tmp_path / f"after {result.epoch}")
        for claim in (tmp_path / f"after {result.epoch}").glob("*.claim"):
            claim.unlink()  # as when its process has died
    assert figures(stored) == alone
    assert not any(result.restored for result in stored)
    assert files(tmp_path / "stored") == files(tmp_path / "alone")
    assert described(tmp_path / "stored") == described(tmp_path / "alone")
    for epoch in range(1, settings.num_epochs + 1):
        folder = tmp_path / f"resumed after {epoch}"
        resumed = session(tmp_path / f"after {epoch}")
        results = list(
            train(settings, splits=digits, num_threads=1, save_to=folder, stages=resumed)
        )
        assert resumed.problem is None
        assert results[:epoch] == stored[:epoch]  # with the clock's own figures: not trained again
        assert figures(results) == alone
        assert files(folder) == files(tmp_path / "alone")


@pytest.mark.parametrize(
    ("first", "then", "num_shared"),
    [
        ({"quantizer": Binary()}, {"quantizer": LearnedUniform(3), "activation_bits": 4}, 2),
        ({"quantizer": LearnedTernary(), "activation_bits": 2}, {"quantizer": Ternary()}, 2),
        ({"selection": Selection("error")}, {"selection": Selection(granularity="element")}, 2),
        ({}, {"distillation": Distillation(weight=0.5)}, 2),
        ({"distillation": Distillation(weight=0.5)}, {"quantizer": Uniform(4)}, 2),
        ({}, {"schedule": Stages((0.0, 0.5, 1.0), (0.0, 0.5, 0.75))}, 4),
        ({"schedule": Exponential()}, {"schedule": Stages((0.5, 0.75, 0.8, 1.0))}, 2),
        ({"quantizer": LearnedUniform(2)}, {"quantizer": LearnedUniform(2)}, 4),
        ({"quantizer": Binary()}, {"quantizer": Float()}, 2),
        (
            {"quantizer": Binary(), "ema": Ema(decay=0.9)},
            {"quantizer": LearnedUniform(3), "activation_bits": 4, "ema": Ema(decay=0.9)},
            2,
        ),
        (
            {"optimizer": Optimizer(decay="weights"), "quantizer": Ternary()},
            {"optimizer": Optimizer(decay="weights"), "quantizer": LearnedTernary()},
            2,
        ),
    ],
    ids=range(11),
)
def test_what_another_training_left_is_taken_up_and_changes_nothing(
    digits, tmp_path, first, then, num_shared
):
    before, after = (config(**{"schedule": WARM_UP, **changes}) for changes in (first, then))
    list(train(before, splits=digits, num_threads=1, stages=session(tmp_path / "s", "study:1")))
    alone = figures(train(after, splits=digits, num_threads=1, save_to=tmp_path / "alone"))
    second = session(tmp_path / "s", "study:2")
    results = list(
        train(after, splits=digits, num_threads=1, save_to=tmp_path / "shared", stages=second)
    )
    assert [result.restored for result in results] == [r.epoch <= num_shared for r in results]
    assert figures(results) == alone
    assert files(tmp_path / "shared") == files(tmp_path / "alone")
    assert second.problem is None
    again = list(train(after, splits=digits, num_threads=1, stages=second))  # costs nothing
    assert again == results


def test_a_quantized_training_goes_on_from_a_float_baseline(digits, tmp_path):
    baseline, low = config(quantizer=Float()), config(quantizer=LearnedUniform(2), schedule=WARM_UP)
    keeping = session(tmp_path, "study:1", keep=(2, 99))
    results = list(train(baseline, splits=digits, num_threads=1, stages=keeping))
    assert [r.val_error == r.val_error_hybrid for r in results] == [True] * 4
    assert {(r.quantization_error, r.changed_rows) for r in results} == {(0.0, 0.0)}
    shared = list(train(low, splits=digits, num_threads=1, stages=session(tmp_path, "study:2")))
    assert [result.restored for result in shared] == [True, True, False, False]
    assert [result.val_error is None for result in shared] == [True, True, False, False]
    assert figures(shared) == figures(train(low, splits=digits, num_threads=1))


def test_the_layers_of_a_warm_up_are_nan_wherever_it_was_trained(digits, tmp_path):
    list(train(config(quantizer=Float()), splits=digits, stages=session(tmp_path / "s", keep=(2,))))
    settings = config(schedule=WARM_UP)
    list(train(settings, splits=digits, save_to=tmp_path / "net", stages=session(tmp_path / "s")))
    kept = load_file(tmp_path / "net" / LAYERS)
    assert {name.rpartition(".")[2] for name in kept} == {"error", "drawn", "changed"}
    for values in kept.values():
        assert len(values) == 4
        assert values[:2].isnan().all()
        assert values[2:].isfinite().all()


def test_changes_of_codes_count_from_the_end_of_the_warm_up(digits):
    still = Optimizer(lr=1e-30, momentum=0.0, weight_decay=0.0)
    for quantizer in (Binary(), LearnedUniform(2)):
        settings = config(quantizer=quantizer, schedule=WARM_UP, optimizer=still)
        results = list(train(settings, splits=digits))
        assert [result.changed_rows for result in results] == [None, None, 0.0, 0.0]


def test_a_start_and_a_teacher_of_a_file_are_resumed_too(digits, tmp_path):
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = build(ResNet("resnet8", 2), 1, 10)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    start = Start(weights=str(tmp_path / "net.pt"))
    for distillation in (
        Distillation(weight=0.5),
        Distillation(weight=0.5, teacher=str(tmp_path / "net.pt")),
    ):
        settings = config(start=start, distillation=distillation)
        alone = figures(train(settings, splits=digits, num_threads=1))
        stages = session(tmp_path / "stages")
        broken = train(settings, splits=digits, num_threads=1, stages=stages)
        first = [next(broken), next(broken)]
        broken.close()
        results = list(train(settings, splits=digits, num_threads=1, stages=stages))
        assert results[:2] == first
        assert figures(results) == alone

"""Which configurations are measured for `gpus: auto`, and what is made of the figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from sqtune.cli import main
from sqtune.config import load_space
from sqtune.config.options import Resources
from sqtune.config.trial import TrialConfig
from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.data.split import write_prepared
from sqtune.errors import ConfigError, ResourceError
from sqtune.search.gpu_probe import measured_here, peak_of, train_a_little
from sqtune.search.machine import check_kind, this_machine
from sqtune.search.peak import Peak, largest_configs, share_of_gpu, share_text
from sqtune.train.gpu_memory import is_shortage

SPACE = """
trial: {num_epochs: 3}
space:
  batch_size: {choice: [64, 512, 32]}
  network: {choice: [{name: resnet8, width: 4}, {name: resnet20, width: 8}, {name: resnet8}]}
  activation_bits: {choice: [4, 32]}
  optimizer.lr: {float: [0.01, 0.1]}
  seed: {int: [0, 9]}
"""


@pytest.fixture(scope="module")
def digits():
    return prepare(Digits())


def space_of(folder, text=SPACE, *overrides):
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path, overrides)


def test_the_largest_configuration_is_found_wherever_its_values_stand(tmp_path, digits):
    configs = largest_configs(space_of(tmp_path), lambda config: digits)
    first = configs[0]
    assert (first.batch_size, first.activation_bits) == (512, 4)
    assert (first.network.name, first.network.width) == ("resnet20", 8)
    assert 1 < len(configs) <= 4
    assert len({(c.batch_size, c.network, c.activation_bits) for c in configs}) == len(configs)


def test_what_takes_more_memory_beside_the_network_counts(tmp_path, digits):
    text = """
trial:
  num_epochs: 4
  network: {name: resnet8, width: 4}
  batch_size: 1
  schedule: {name: exponential, warmup: 0.5}
space:
  ema.decay: {choice: [0, 0.99]}
  optimizer.name: {choice: [sgd, adamw]}
  distillation.weight: {choice: [0, 0.5]}
  activation_bits: {choice: [4, 32]}
  network.width: {choice: [4, 16, 8]}
  batch_size: {choice: [1, 64, 2]}
"""
    first = largest_configs(space_of(tmp_path, text), lambda config: digits)[0]
    assert (first.ema.decay, first.optimizer.name, first.distillation.weight) == (
        0.99,
        "adamw",
        0.5,
    )
    assert (first.activation_bits, first.network.width, first.batch_size) == (4, 16, 64)


def test_of_given_points_only_these_are_measured(tmp_path, digits):
    points = "search.sampler=points", "points=[{batch_size: 64}, {batch_size: 32}]"
    configs = largest_configs(space_of(tmp_path, SPACE, *points), lambda config: digits)
    assert [config.batch_size for config in configs] == [64, 32]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"batch_size": 5000},
        {"schedule": {"name": "exponential", "warmup": 0.5}, "distillation": {"weight": 0.5}},
        {"quantizer": {"name": "lsq", "bits": 2}, "activation_bits": 4, "ema": {"decay": 0.9}},
        {"optimizer": {"lr": 1e30}},  # a loss that is not finite does not matter
    ],
)
def test_a_probe_trains_whatever_a_space_may_hold(digits, fields):
    small = {"network": {"name": "resnet8", "width": 2}, "num_epochs": 4, **fields}
    config = TrialConfig.model_validate_json(json.dumps(small))
    train_a_little(config, digits, torch.device("cpu"))


def test_as_many_trials_as_fit_get_equal_shares_on_all_kinds_of_gpu():
    small, large = Peak("T4", 100, 20, 5, ""), Peak("A100", 1000, 20, 5, "")
    assert share_of_gpu([small], 99) == 0.3333
    assert share_of_gpu([large], 99) == 0.0277  # 36 of them
    assert share_of_gpu([small, large], 99) == 0.3333
    assert share_of_gpu([large], 8) == 0.125  # there are no more CPUs
    assert share_of_gpu([Peak("T4", 100, 95, 5, "")], 8) == 1.0  # head room only a whole one has
    assert "1 of a GPU, 1 trial on each" in share_text([small], 1.0, 8)


def test_ray_fits_as_many_shares_as_were_counted():
    for count in range(1, 101):
        assert int(1 / share_of_gpu([Peak("", 10**6, 1, 0, "")], count)) == count


def test_memory_that_ran_out_is_told_from_other_errors():
    assert is_shortage(RuntimeError("CUDA error: out of memory\nCompile with ..."))
    assert is_shortage(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_shortage(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_shortage(ValueError("CUDA out of memory"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_auto_trains_on_the_cpu_and_says_so(tmp_path):
    machine = this_machine(Resources(gpus="auto", accelerator_type="A100"))
    assert machine.resources == Resources()
    assert machine.note == ("resources.gpus: auto: this machine has no GPU, trials train on CPUs")
    text = "trial: {network: {name: resnet8, width: 2}, num_epochs: 1}\nresources: {gpus: auto}"
    space_of(tmp_path, text)
    arguments = ["--space", str(tmp_path / "space.yaml"), "--store", str(tmp_path / "store")]
    planned = CliRunner().invoke(main, ["plan", *arguments], catch_exceptions=False)
    assert "GPU       resources.gpus: auto: this machine has no GPU" in planned.output
    trained = CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)
    assert "no GPU, trials train on CPUs" in trained.output
    assert trained.exit_code == planned.exit_code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_probe_without_a_gpu_says_what_is_missing():
    with pytest.raises(ResourceError, match=r"torch finds none there: .* resources\.gpus=0"):
        measured_here([])


def test_what_a_probe_cannot_do_names_the_configuration_and_the_way_out():
    with pytest.raises(ResourceError, match=r"batch_size 512 does not fit .*resources.gpus=1"):
        peak_of({"problem": "resnet20, batch_size 512 does not fit into it: CUDA out of memory"})


def test_a_kind_of_gpu_is_another_machines_where_the_name_differs():
    check_kind("RTX-PRO-6000", ["NVIDIA RTX PRO 6000 Blackwell"])
    for kind, name in (("A10", "NVIDIA A100-SXM4-40GB"), ("A100-80G", "NVIDIA A100-SXM4-40GB")):
        with pytest.raises(ResourceError, match=f"ask for {kind}, this machine has {name}"):
            check_kind(kind, ["NVIDIA " + kind, name])


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ("{gpus: half}", "resources.gpus"),
        ("{gpus: 1.5}", "a share of one GPU or a whole number"),
        ("{accelerator_type: A100}", "give gpus as well"),
    ],
)
def test_mistakes_in_resources_are_named(tmp_path, resources, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        space_of(tmp_path, f"{SPACE}resources: {resources}\n")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_a_probe_measures_on_a_gpu_is_enough_for_the_training(tmp_path, digits):
    write_prepared(digits, tmp_path / "digits")
    config = TrialConfig.model_validate_json('{"batch_size": 512, "num_epochs": 3}')
    peak = measured_here([(config.model_dump_json(), str(tmp_path / "digits"))])
    assert 0 < peak.peak_bytes < peak.total_bytes
    assert peak.context_bytes > 0
    program = (
        "import torch; from sqtune.config.trial import TrialConfig; "
        "from sqtune.train.loop import train; from sqtune.train.gpu_memory import limit_memory; "
        f"limit_memory('cuda', {peak.share}); "
        f"list(train(TrialConfig.model_validate_json({config.model_dump_json()!r}), device='cuda'))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
    greedy = program.replace(str(peak.share), "1e-4")
    answer = subprocess.run(
        [sys.executable, "-c", greedy], capture_output=True, text=True, check=False, timeout=300
    )
    assert "out of memory" in answer.stderr

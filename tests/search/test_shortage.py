"""Trials that run out of GPU memory: driver, Ray, workers and stages are real, the GPU is not."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sqtune.config.options import Resources
from sqtune.search.courses import Courses
from sqtune.search.driver import Driver
from sqtune.search.executor import local_ray, run_trials
from sqtune.search.limits import Limits
from sqtune.search.prepare import footprints, prepare_data, stage_store
from sqtune.search.progress import Progress

from .studies import new_store, opened, space_of
from .test_driver import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NETWORK = '''
import ray
import torch
from torch import nn


class Hungry(nn.Sequential):
    """Runs out of memory in its second epoch where its share of a GPU is below `needs`."""

    def __init__(self, needs, num_classes):
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes),
        )
        self.needs, self.steps = needs, 0

    def forward(self, images):
        self.steps += self.training
        if ray.is_initialized() and self.steps > 12:
            share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
            if share < self.needs:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(images)
'''
SPACE = """
name: hungry
trial:
  network: {factory: "hungry_network:Hungry", args: {needs: 0}}
  num_epochs: 4
  batch_size: 128
space:
  network.args.needs: {choice: [0.5, 0, 2]}
search: {num_trials: 3, sampler: grid}
"""


@pytest.fixture
def space(tmp_path, monkeypatch):
    (tmp_path / "hungry_network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return space_of(tmp_path, SPACE)


def searched(space: Any, root: Path, gpus: float, console: Console) -> Driver:
    """Search with a share of a GPU that Ray takes for one; trials train on the CPU."""
    store = new_store(root)
    for path, splits in prepare_data(space, store).items():
        from sqtune.data.split import write_prepared

        write_prepared(splits, path)
    study = opened(store, space, footprint=footprints(space, store))
    courses = Courses(space, store, stage_store(space, store), study.attrs["uuid"])
    limits = Limits(space.search, gpus, 0.0, lambda: False)
    progress = Progress(console)
    driver = Driver(study, Recorder(), progress, store, limits, courses, num_slots=2)  # type: ignore[arg-type]
    driver.mishaps.gpus = gpus
    progress.begin(3, [])
    with local_ray(2, 1):
        run_trials(driver, Resources(gpus=gpus), num_slots=2, folder=store.ray(space.name))
    return driver


def test_a_trial_that_runs_out_gets_a_larger_share_once_and_goes_on(space, tmp_path):
    console = Console(record=True, width=200, file=io.StringIO())
    driver = searched(space, tmp_path / "store", 0.25, console)
    trials = {trial.values["network.args.needs"]: trial for trial in driver.study.trials()}
    assert {needs: trial.state for needs, trial in trials.items()} == {
        0.5: "finished",
        0: "finished",
        2: "failed",
    }
    assert [trials[needs].facts["gpus"] for needs in (0.5, 0)] == [0.5, 0.25]
    reason = trials[2].failure
    assert reason.startswith("it ran out of GPU memory with 0.5 of a GPU, before that with 0.25. ")
    assert reason.endswith("(resources.gpus). CUDA out of memory. Tried to allocate 2.00 GiB.")
    said = console.export_text()
    for needs in (0.5, 2):
        number = trials[needs].number
        assert f"trial   {number}  out of memory with 0.25 of a GPU; it goes on with 0.5" in said
        log = Path(driver.store.log("hungry", number)).read_text()
        assert log.count("on process") == 2
        speeds = re.findall(r" epoch 1  .*images_per_second (\S+)", log)
        assert len(speeds) == 2
        assert len(set(speeds)) == 1, "the second leg trained the first epoch again"

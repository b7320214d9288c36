"""How much of a GPU's memory trainings take, measured by a process of its own.

python -m sqtune.search.gpu_probe      takes [[CONFIG, DATA], ...] on stdin, prints what was found
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sqtune.config.trial import TrialConfig
from sqtune.data.batches import EVALUATION_BATCH
from sqtune.data.split import AnySplit, Splits, open_prepared
from sqtune.errors import ResourceError, TrainingError
from sqtune.search.peak import Peak, config_text
from sqtune.store import Store
from sqtune.train.gpu_memory import is_shortage, limit_memory, release_memory, taken
from sqtune.train.training import Training

STEPS = 3  # of training in an epoch
PROBE_SECONDS = 600.0  # torch.compile takes minutes
NOT_THERE = (
    "torch finds none there: it needs a build with CUDA and NVIDIA's driver. Mend that, or give "
    "--set resources.gpus=0 to train on CPUs"
)


def measure(trainings: Sequence[tuple[str, str]], place: str | None = None) -> dict[str, Any]:
    """Train a little, one configuration after another, on this process's first GPU.

    Args:
        trainings: Configurations as JSON, each with its prepared data: a file, or its name in the
            store.
        place: The store's; None where files are meant.

    Returns:
        A `Peak` as plain data, or a `problem`.
    """
    if not torch.cuda.is_available():
        return {"problem": f"a GPU is there, but {NOT_THERE}"}
    found = []
    for text, data in trainings:
        config = TrialConfig.model_validate_json(text)
        splits = open_prepared(Path(data) if place is None else _fetched(place, data))
        limit_memory("cuda", 1.0)
        try:
            train_a_little(config, splits, torch.device("cuda"))
        except RuntimeError as error:
            if not is_shortage(error):
                raise
            return {"problem": f"{config_text(config)} does not fit into it: {error}"}
        found.append({**taken("cuda"), "config": config_text(config)})
        release_memory("cuda")
    free, total = torch.cuda.mem_get_info()
    largest = max(found, key=lambda each: int(each["peak_bytes"]))
    return {**largest, "context_bytes": total - free - torch.cuda.memory_reserved()}


def _fetched(place: str, name: str) -> Path:
    store = Store.at(place)
    path = store.root / name
    store.fetch(path)
    return path


def train_a_little(config: TrialConfig, splits: Splits, device: torch.device) -> None:
    """Take some steps of the first and of the last epoch, with all data where a trial has them.

    Every quantizer acts in the last one. That its loss may not be finite is no matter here.
    """
    whole = splits.with_workers(0).to(device)
    part = replace(
        whole,
        train=_first(whole.train, STEPS * config.batch_size),
        validation=_first(whole.validation, EVALUATION_BATCH),
    )
    training = Training(config, part, device)
    for epoch in (1, config.num_epochs):
        with contextlib.suppress(TrainingError):
            training.run_epoch(epoch)


def measured_here(trainings: Sequence[tuple[str, str]]) -> Peak:
    """Return what trainings take of this machine's first GPU; measured by a process of its own.

    Raises:
        ResourceError: They do not fit, or cannot be trained.
    """
    command = [sys.executable, "-m", "sqtune.search.gpu_probe"]
    answer = subprocess.run(
        command,
        input=json.dumps(trainings),
        capture_output=True,
        text=True,
        timeout=PROBE_SECONDS,
        check=False,
    )
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise no_peak(lines[-1])
    return peak_of(json.loads(answer.stdout.splitlines()[-1]))


def peak_of(answer: dict[str, Any]) -> Peak:
    """Return what was measured.

    Raises:
        ResourceError: There was a problem.
    """
    if "problem" in answer:
        raise no_peak(answer["problem"])
    return Peak(**answer)


def no_peak(why: str) -> ResourceError:
    """Return an error that says why nothing was measured and what to do."""
    return ResourceError(
        f"resources.gpus: auto: a GPU's memory was measured in vain: {why}. Take smaller values "
        "(trial.batch_size, trial.network) out of the space's largest, or give a number: "
        "--set resources.gpus=1."
    )


def _first(split: AnySplit, num_images: int) -> AnySplit:
    return split.part(torch.arange(min(num_images, len(split))))


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))

"""Stages as cached functions: what acts in an epoch, and in all before it, is the epoch's key.

Two trainings whose keys of an epoch are equal are bit-identical up to its end, so one of them can
take up the other's checkpoint. A quantizer acts once the ratio is above 0: a float warm-up is
shared by all quantizers, selections and schedules, and with a float baseline.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sqtune.config.trial import TrialConfig
from sqtune.errors import StoreError
from sqtune.files import expanded
from sqtune.networks.by_factory import code_of
from sqtune.quant import Float, Selection, epoch_ratio, epoch_stage
from sqtune.train.checkpoint import ABOUT, WEIGHTS
from sqtune.train.optim import learning_rate_span

ACTING = ("quant", "networks", "data", "train", "config/training.py")  # sources, under sqtune/


def epoch_keys(
    config: TrialConfig,
    data_fingerprint: str,
    *,
    device: torch.device | str = "cpu",
    num_threads: int | None = None,
) -> tuple[str, ...]:
    """Return a key (64 hexadecimal digits) for each epoch: a hash of all that acts up to its end.

    Args:
        config: What is trained.
        data_fingerprint: `Splits.fingerprint` of its data.
        device: Where it is trained.
        num_threads: CPU threads of torch; None: as many as there are now.

    Raises:
        StoreError: The weights to start from, or the teacher, cannot be read.
        ConfigError: There is no such factory.
    """
    key = _hash(_from_the_start(config, data_fingerprint), _machine(str(device), num_threads))
    is_float = _is_float(config)
    quantizing = _hash(
        asdict(config.quantizer),
        [asdict(rule) for rule in config.rules],
        None if config.activations is None else asdict(config.activations),
    )
    teaching = _teaching(config)
    keys = []
    for epoch in range(1, config.num_epochs + 1):
        ratio = 0.0 if is_float else epoch_ratio(config.schedule, epoch, config.num_epochs)
        acting: list[Any] = [key, ratio, _learning_rate(config, epoch)]
        if ratio > 0:
            acting += [quantizing, _selecting(config.selection, ratio)]
        if teaching is not None and (ratio > 0 or not _waits_for_teacher(config)):
            acting += [teaching]
        key = _hash(*acting)
        keys.append(key)
    return tuple(keys)


def stage_ends(config: TrialConfig) -> tuple[int, ...]:
    """Return the last epoch of each stage; a network that stays float has one stage.

    >>> stage_ends(TrialConfig(num_epochs=12))
    (3, 6, 9, 12)
    """
    if _is_float(config):
        return (config.num_epochs,)
    ends, epoch = [], 0
    while epoch < config.num_epochs:
        first, length = epoch_stage(config.schedule, epoch + 1, config.num_epochs)
        epoch = first + length - 1
        ends.append(epoch)
    return tuple(ends)


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the sha256 of the source files that decide what a training computes."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for part in ACTING:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _from_the_start(config: TrialConfig, data_fingerprint: str) -> dict[str, Any]:
    """Return what acts in every epoch."""
    start, optimizer = config.start, config.optimizer
    return {
        "data": data_fingerprint,
        "augmentation": [config.data.crop_padding, config.data.mirror],
        "network": [asdict(config.network), code_of(config.network)],
        "start": start and [_weights_sha256(start.weights, "trial.start.weights"), start.fresh],
        "optimizer": [
            optimizer.name,
            optimizer.momentum,
            optimizer.weight_decay,
            optimizer.nesterov,
            optimizer.decay,
        ],
        "regularization": config.regularization.model_dump(),
        "ema": config.ema.model_dump(),
        "compute": config.compute.model_dump(exclude={"data_workers"}),
        "batch_size": config.batch_size,
        "seed": config.seed,
    }


@lru_cache(maxsize=8)
def _gpu_name(device: str) -> str | None:
    on_cuda = torch.device(device).type == "cuda" and torch.cuda.is_available()
    return torch.cuda.get_device_name(device) if on_cuda else None


def _machine(device: str, num_threads: int | None) -> dict[str, Any]:
    """Return what else decides the bits of a result."""
    return {
        "device": [torch.device(device).type, _gpu_name(device)],
        "threads": num_threads or torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "code": code_version(),
    }


def _is_float(config: TrialConfig) -> bool:
    """Tell whether the configuration quantizes nothing, whatever the network's layers are."""
    return all(
        isinstance(each, Float)
        for each in (config.quantizer, *(rule.quantizer for rule in config.rules))
    )


def _learning_rate(config: TrialConfig, epoch: int) -> Any:
    """Return the slice of the learning rate that acts in an epoch: the rate itself if it stays."""
    spec = config.optimizer
    first, length = learning_rate_span(spec, config.schedule, epoch, config.num_epochs)
    done = epoch - first
    if done / length < spec.warmup:
        return [spec.lr, asdict(spec.schedule), done, length, spec.warmup]
    match spec.schedule.name:
        case "constant":
            return spec.lr * spec.schedule.factor(0.0)
        case "steps":
            start, end = done / length, (done + 1) / length
            if not any(start < milestone < end for milestone in spec.schedule.milestones):
                return spec.lr * spec.schedule.factor(start)
    return [spec.lr, asdict(spec.schedule), done, length]


def _selecting(selection: Selection, ratio: float) -> list[str]:
    """Return what of a selection acts: nothing is chosen at ratio 1, nor drawn by deterministic."""
    if ratio == 1:
        return [selection.granularity]
    if selection.strategy == "deterministic":
        return [selection.granularity, selection.strategy]
    return [selection.granularity, selection.strategy, selection.function]


def _waits_for_teacher(config: TrialConfig) -> bool:
    """Tell whether soft targets begin with the network that a float warm-up makes."""
    return config.distillation.teacher is None and config.has_float_warmup


def _teaching(config: TrialConfig) -> Any:
    """Return what acts once soft targets do; None where they never do."""
    spec = config.distillation
    if spec.weight == 0:
        return None
    teacher = spec.teacher and _weights_sha256(
        spec.teacher, "trial.distillation.teacher", whole=True
    )
    return [spec.weight, spec.temperature, teacher]


def _weights_sha256(path: str, field: str, *, whole: bool = False) -> str:
    """Return the sha256 of weights; `whole`: of the description beside them, which has theirs."""
    place = expanded(path, field)
    file = place / (ABOUT if whole else WEIGHTS) if place.is_dir() else place
    try:
        facts = file.stat()
        return _sha256(file, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise StoreError(f"{field}: {path} cannot be read: {error}. Give another path.") from error


@lru_cache(maxsize=64)
def _sha256(file: Path, modified_ns: int, num_bytes: int) -> str:
    del modified_ns, num_bytes  # a file that changes is read anew
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

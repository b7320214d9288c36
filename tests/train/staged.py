"""A small training with a float warm-up, and a trial's session with a stage store."""

from __future__ import annotations

from pathlib import Path

from sqtune.config import TrialConfig
from sqtune.networks import ResNet
from sqtune.quant import Average
from sqtune.train.loop import StageSession
from sqtune.train.stage_store import StageStore

GIB = 2**30
WARM_UP = Average(num_stages=2, warmup=0.5)  # ratios 0, 0, 0.5, 1 in four epochs


def config(**changes) -> TrialConfig:
    values = {"network": ResNet("resnet8", 2), "batch_size": 256, "num_epochs": 4, **changes}
    return TrialConfig(**values)


def session(place: Path | str, owner: str = "study:1", **fields) -> StageSession:
    return StageSession(StageStore(place, GIB), owner, **fields)

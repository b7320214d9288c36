"""Optimizers: built from their description; the learning rate is a pure function of progress."""

from __future__ import annotations

import torch
from torch import nn

from sqtune.config.trial import Optimizer


def build_optimizer(model: nn.Module, spec: Optimizer) -> torch.optim.Optimizer:
    """Build the optimizer of a model's (latent) parameters."""
    if spec.name == "adamw":
        return torch.optim.AdamW(
            model.parameters(),
            lr=spec.lr,
            betas=(spec.momentum, 0.999),
            weight_decay=spec.weight_decay,
        )
    return torch.optim.SGD(
        model.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, spec: Optimizer, progress: float) -> float:
    """Set and return the learning rate at `progress` (0..1)."""
    lr = spec.lr * spec.schedule.factor(progress)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr

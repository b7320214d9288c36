"""Optimizers: built from their description; the learning rate is a pure function of progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from sqtune.config.trial import Optimizer
from sqtune.quant import Schedule, epoch_stage


class Updater(Protocol):
    """What the loop needs of an optimizer."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Update the parameters."""


class Sgd:
    """torch.optim.SGD's own update without its class: the same numbers, bit for bit.

    The class imports torch's compiler when it is made: 150 MB and a second in every worker.

    Args:
        parameters: What is updated.
        lr: Learning rate; `param_groups[0]["lr"]` may be set between steps.
        momentum: In [0, 1).
        weight_decay: At least 0.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        self._parameters = list(parameters)
        self._buffers: dict[int, Tensor | None] = {}
        self._momentum, self._weight_decay = momentum, weight_decay
        self.param_groups: list[dict[str, Any]] = [{"params": self._parameters, "lr": lr}]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        indices = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        buffers: list[Tensor | None] = [self._buffers.get(i) for i in indices]
        sgd(
            [self._parameters[i] for i in indices],
            [g for i in indices if (g := self._parameters[i].grad) is not None],
            buffers,
            foreach=True,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=self.param_groups[0]["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._buffers.update(zip(indices, buffers, strict=True))


def build_optimizer(model: nn.Module, spec: Optimizer) -> Updater:
    """Build the optimizer of a model's (latent) parameters."""
    if spec.name == "adamw":
        return torch.optim.AdamW(
            model.parameters(),
            lr=spec.lr,
            betas=(spec.momentum, 0.999),
            weight_decay=spec.weight_decay,
        )
    return Sgd(
        model.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )


def learning_rate_span(
    spec: Optimizer, schedule: Schedule, epoch: int, num_epochs: int
) -> tuple[int, int]:
    """Return over which epochs the learning-rate schedule runs once: the first, and how many.

    With `restarts: stage` these are the epochs of the ratio schedule's stage that `epoch` belongs
    to, whatever the quantizer. A stage goes on from the weights of the one before (the paper's
    recipes), and from its momentum, which is not reset.
    """
    if spec.restarts == "stage":
        return epoch_stage(schedule, epoch, num_epochs)
    return 1, num_epochs


def set_learning_rate(optimizer: Updater, spec: Optimizer, progress: float) -> float:
    """Set and return the learning rate at `progress` (0..1) of its span."""
    lr = spec.lr * spec.schedule.factor(progress)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr

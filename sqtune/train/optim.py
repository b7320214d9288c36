"""Optimizers: built from their description; the learning rate is a pure function of progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from sqtune.config.training import Optimizer
from sqtune.quant import Schedule, epoch_stage

MOMENTUM = "momentum_buffer"  # as torch.optim.SGD calls it
LARGEST_SHARE = 0.1  # of a learned step: the most that its gradient may be


class Updater(Protocol):
    """What the loop needs of an optimizer."""

    param_groups: list[dict[str, Any]]
    state: Any  # parameter -> tensors by name, for parameters that were updated

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Update the parameters."""


class Sgd:
    """torch.optim.SGD's own update without its class: the same numbers, bit for bit.

    The class imports torch's compiler when it is made: 150 MB and a second in every worker.

    Args:
        groups: As torch.optim.SGD takes them: `params`, `lr`, `momentum` in [0, 1) and
            `weight_decay` of at least 0 each, `nesterov` with a momentum above 0; `lr` may be set
            between steps.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = list(groups)
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            updated = [p for p in group["params"] if p.grad is not None]
            if not updated:
                continue
            buffers: list[Tensor | None] = [self.state.get(p, {}).get(MOMENTUM) for p in updated]
            sgd(
                updated,
                [p.grad for p in updated],
                buffers,
                foreach=True,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=group["nesterov"],
                maximize=False,
            )
            for parameter, buffer in zip(updated, buffers, strict=True):
                if buffer is not None:
                    self.state[parameter] = {MOMENTUM: buffer}


def build_optimizer(
    weights: Iterable[nn.Parameter], learned: Sequence[nn.Parameter], spec: Optimizer
) -> Updater:
    """Build the optimizer of a model's (latent) parameters and of what quantization learns.

    Args:
        weights: The model's parameters.
        learned: Steps and clipping points; they get no weight decay. They are the last group, which
            may be missing before anything is quantized.
        spec: Which optimizer.
    """
    decayed, others = list(weights), list[nn.Parameter]()
    if spec.decay == "weights":  # biases and batch norm have one dimension
        decayed, others = ([p for p in decayed if (p.ndim > 1) is is_w] for is_w in (True, False))
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": spec.weight_decay}]
    if spec.decay == "weights":
        groups.append({"params": others, "weight_decay": 0.0})
    if learned:
        groups.append({"params": list(learned), "weight_decay": 0.0})
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=(spec.momentum, 0.999))
    settings = {"lr": spec.lr, "momentum": spec.momentum, "nesterov": spec.nesterov}
    return Sgd({**group, **settings} for group in groups)


@torch.no_grad()
def bound_gradients(learned: Sequence[nn.Parameter]) -> None:
    """Keep the gradient of every learned step and clipping point within a tenth of its value.

    They are trained at the learning rate of the weights, and one of 8 bits is small: at 0.1, a few
    inputs beyond the grid would throw it to twenty times its value, whereupon its layer has a few
    levels left. LSQ (Esser et al., ICLR 2020) lowers the rate of all to 0.001 for 8 bits. Source:
    adaptive gradient clipping, Brock et al., "High-Performance Large-Scale Image Recognition
    Without Normalization", ICML 2021, eq. 3.
    """
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    if gradients:
        values: list[Tensor] = [parameter for parameter in learned if parameter.grad is not None]
        largest = torch._foreach_mul(torch._foreach_abs(values), LARGEST_SHARE)
        torch._foreach_minimum_(gradients, list(largest))
        torch._foreach_maximum_(gradients, list(torch._foreach_neg(largest)))


def optimizer_state(optimizer: Updater) -> dict[str, dict[str, Tensor]]:
    """Return what an optimizer remembers of each parameter, by group and place in it: "0.3"."""
    return {
        f"{number}.{place}": dict(optimizer.state[parameter])
        for number, group in enumerate(optimizer.param_groups)
        for place, parameter in enumerate(group["params"])
        if parameter in optimizer.state
    }


@torch.no_grad()
def load_optimizer_state(optimizer: Updater, state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Take up what `optimizer_state` returned of an optimizer with the same parameters.

    It may have fewer groups: what is learned beside the weights may not have been there yet.

    Raises:
        KeyError: It knows a parameter that this one does not.
        RuntimeError: A shape differs.
    """
    parameters = {
        f"{number}.{place}": parameter
        for number, group in enumerate(optimizer.param_groups)
        for place, parameter in enumerate(group["params"])
    }
    optimizer.state.clear()
    for key, tensors in state.items():
        parameter = parameters[key]
        optimizer.state[parameter] = {
            # AdamW counts its steps on the CPU.
            name: value.clone() if name == "step" else torch.empty_like(parameter).copy_(value)
            for name, value in tensors.items()
        }


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
    lr = spec.learning_rate(progress)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr

"""Distillation: soft targets of a teacher beside the labels (Hinton et al., 2015).

loss = (1 - weight) * cross-entropy + weight * T**2 * KL(teacher at T || student at T), where "at T"
is the softmax of logits / T, and T**2 keeps the size of the gradients whatever T is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqtune.config.trial import TrialConfig
from sqtune.data.split import Splits
from sqtune.errors import StoreError
from sqtune.files import expanded
from sqtune.train.checkpoint import load_network
from sqtune.train.compute import Computing, Inputs
from sqtune.train.start import put_weights, read_weights

FIELD = "trial.distillation.teacher"


def soft_loss(student_NK: Tensor, teacher_NK: Tensor, temperature: float) -> Tensor:
    """Return T**2 * KL(teacher || student) of logits at temperature T, averaged over images.

    >>> soft_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 3.0]]), 4.0).item()
    0.0
    """
    student_log_NK = functional.log_softmax(student_NK / temperature, dim=1)
    teacher_log_NK = functional.log_softmax(teacher_NK / temperature, dim=1)
    divergence = functional.kl_div(
        student_log_NK, teacher_log_NK, reduction="batchmean", log_target=True
    )
    return temperature**2 * divergence


class SoftTargets:
    """The teacher, once there is one, and the loss that follows from it.

    The teacher is, in this order: what `distillation.teacher` names; a copy of the network as it
    stands when the ratio first leaves 0; what the network started from. It evaluates (no dropout,
    stored batch norm statistics), is never trained, and sees the images that the student sees.
    Until there is one, and with weight 0, the loss is the cross-entropy and nothing is computed.

    Args:
        config: The trial's configuration.
        model: The student as it starts, in place on its device.
        splits: The data.
        inputs: What the student's images go through.
        computing: How the teacher computes, too.

    Raises:
        StoreError: The teacher cannot be read, or does not suit the data.
    """

    def __init__(
        self,
        config: TrialConfig,
        model: nn.Module,
        splits: Splits,
        inputs: Inputs,
        computing: Computing,
    ) -> None:
        self._spec, self._inputs, self._computing = config.distillation, inputs, computing
        self._teacher: nn.Module | None = None
        self._forward: Callable[[Tensor], Tensor] | None = None
        self._waiting = self._is_own = False
        if self._spec.weight == 0:
            return
        if self._spec.teacher is not None:
            self._read(expanded(self._spec.teacher, FIELD), model, splits)
        elif config.has_float_warmup:
            self._waiting = self._is_own = True
        else:
            self._take(copy.deepcopy(model))

    def begin_epoch(self, ratio: float, model: nn.Module) -> None:
        """Take the network for the teacher where the float warm-up lies just behind it."""
        if self._waiting and ratio > 0:
            self._take(copy.deepcopy(model))

    def state_dict(self) -> dict[str, Tensor] | None:
        """Return the teacher that the training itself made; None where there is none such."""
        return self._teacher.state_dict() if self._is_own and self._teacher is not None else None

    def load_state_dict(self, state: Mapping[str, Tensor] | None, model: nn.Module) -> None:
        """Take up the teacher that `state_dict` returned.

        Args:
            state: The teacher, or None.
            model: The student, for what a network is.

        Raises:
            RuntimeError: It is another network.
        """
        if state is not None:
            teacher = copy.deepcopy(model)
            teacher.load_state_dict(state)
            self._take(teacher)

    def loss(self, cross_entropy: Tensor, logits_NK: Tensor, images: Tensor) -> Tensor:
        """Return the loss that is optimised.

        Args:
            cross_entropy: With the labels.
            logits_NK: The student's, float32.
            images: What they are of, uint8.
        """
        if self._forward is None:
            return cross_entropy
        weight, temperature = self._spec.weight, self._spec.temperature
        with torch.no_grad(), self._computing.autocast():
            teacher_NK = self._forward(self._inputs(images)).float()
        soft = soft_loss(logits_NK, teacher_NK, temperature)
        return (1 - weight) * cross_entropy + weight * soft

    def _read(self, path: Path, model: nn.Module, splits: Splits) -> None:
        """Take the teacher from a folder (its own network and normalisation) or a weights file."""
        if not path.is_dir():
            teacher = copy.deepcopy(model)
            put_weights(teacher, read_weights(path, FIELD), f"{FIELD}: {path}")
            self._take(teacher)
            return
        try:
            saved = load_network(path)
        except StoreError as error:
            raise StoreError(f"{FIELD}: {error}") from error
        for what, theirs, ours in (
            ("classes", saved.about.classes, splits.classes),
            ("channels", saved.about.num_channels, splits.num_channels),
            ("image size", saved.about.image_size, splits.image_size),
        ):
            if theirs != ours:
                raise StoreError(
                    f"{FIELD}: {path} was trained on images with other {what}: {theirs}, "
                    f"not {ours}. Give a network that was trained on the same data."
                )
        saved.quantization.freeze()  # a low-bit teacher teaches what was measured of it
        self._inputs = self._computing.inputs(saved.about.mean, saved.about.std)
        self._take(self._computing.place(saved.model))

    def _take(self, model: nn.Module) -> None:
        self._teacher, self._waiting = model.requires_grad_(False).eval(), False
        self._forward = self._computing.compiled(model, beside=True)

"""Evaluation: the error of what would be deployed, at any moment of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sqtune.data.batches import EVALUATION_BATCH
from sqtune.data.split import AnySplit
from sqtune.errors import TrainingError
from sqtune.train.compute import Inputs

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
REESTIMATION_BATCHES = 30
FEW_CLASSES = 10  # up to so many, that a class is among the five likeliest says little


def error_rate(model: nn.Module, split: AnySplit, inputs: Inputs, device: torch.device) -> float:
    """Return the share (0..1) of a split's images that the model, as it stands, gets wrong.

    Raises:
        TrainingError: An output is not finite.
    """
    return top_errors(model, split, inputs, device)[0]


@torch.no_grad()
def top_errors(
    model: nn.Module, split: AnySplit, inputs: Inputs, device: torch.device
) -> tuple[float, float | None]:
    """Return a split's top-1 and top-5 error (0..1); no top-5 error of ten classes or fewer.

    Top-5: the share of images whose class is not among those of the five largest outputs.

    Raises:
        TrainingError: An output is not finite.
    """
    was_training = model.training
    model.eval()
    wrong, far = torch.zeros((2,), dtype=torch.int64, device=device)
    num_classes = 0
    finite = torch.ones((), dtype=torch.bool, device=device)
    num_images = 0
    for images, labels in split.in_order(EVALUATION_BATCH, device):
        logits = model(inputs(images))
        finite &= logits.isfinite().all()
        wrong += (logits.argmax(dim=1) != labels).sum()
        num_classes = logits.shape[1]
        if num_classes > FEW_CLASSES:
            far += len(labels) - (logits.topk(5).indices == labels.unsqueeze(1)).sum()
        num_images += len(labels)
    model.train(was_training)
    if not finite:
        raise TrainingError("the network's outputs are not finite. Lower the learning rate.")
    top5 = int(far) / num_images if num_classes > FEW_CLASSES else None
    return int(wrong) / num_images, top5


@contextmanager
def reestimated_batch_norm(
    model: nn.Module, train: AnySplit, inputs: Inputs, *, batch_size: int, device: torch.device
) -> Iterator[None]:
    """Give batch norm the statistics of the weights as they stand, and its own back afterwards.

    A network whose weights were just quantized has other activations than the hybrid one whose
    statistics training collected; with those, a half-trained binary network looks random. The
    statistics are plain averages over at most 30 training batches and at most a quarter of the
    training split (at least one batch), spread evenly over it and not augmented.
    """
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    norms = [norm for norm in norms if norm.track_running_stats]
    kept = [
        ({name: buffer.clone() for name, buffer in norm.named_buffers()}, norm.momentum)
        for norm in norms
    ]
    was_training = {module: module.training for module in model.modules()}
    batch_size = min(batch_size, len(train))
    num_batches = max(1, min(REESTIMATION_BATCHES, len(train) // 4 // batch_size))
    stride = len(train) // (num_batches * batch_size)
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        with torch.no_grad():
            for first in range(num_batches):
                for norm in norms:  # a plain average; None would ask the device for its count
                    norm.momentum = 1 / (first + 1)
                ids = torch.arange(first * stride, len(train), num_batches * stride)[:batch_size]
                model(inputs(train.take(ids.to(train.labels.device)).to(device)))
        model.eval()
        yield
    finally:
        for norm, (buffers, momentum) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            with torch.no_grad():
                for name, buffer in norm.named_buffers():
                    buffer.copy_(buffers[name])
        for module, training in was_training.items():
            module.training = training

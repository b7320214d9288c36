"""How a step is computed on a device: precision, memory format, torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqtune.config.training import Compute
from sqtune.data.batches import Normalize

Inputs = Callable[[Tensor], Tensor]  # uint8 images to what a network takes


@dataclass(frozen=True, slots=True)
class Computing:
    """What `compute` in a configuration comes to on one device.

    Attributes:
        device: Where the network is.
        bfloat16: Whether matrix products and convolutions run in bfloat16 (autocast); weights,
            their updates, batch norm's statistics and the loss are float32 in any case.
        memory_format: Of images and of 4-dimensional weights.
        mode: torch.compile's; None computes operation by operation.
    """

    device: torch.device
    bfloat16: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    mode: str | None = None

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context for forward and loss; leave it for the backward pass."""
        if not self.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model, in place, to the device and into the memory format."""
        return model.to(self.device).to(memory_format=self.memory_format)

    def inputs(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Inputs:
        """Return what normalises uint8 images and gives them the memory format."""
        normalize, memory_format = Normalize(mean, std, self.device), self.memory_format
        return lambda images: normalize(images).contiguous(memory_format=memory_format)

    def compiled(self, model: nn.Module, *, beside: bool = False) -> Callable[[Tensor], Tensor]:
        """Return the model's forward, compiled if asked for; the model itself stays as it is.

        torch's compiler is imported only where it is asked for (and by torch's AdamW): 190 MB in
        each worker. What it kept for earlier networks of the process is dropped: it counts them
        against a limit, past which it no longer compiles.

        Args:
            model: The network.
            beside: It is a further one of the same training: what is compiled stays, and no CUDA
                graph is made of it, whose output would lie where the next graph writes.
        """
        if self.mode is None:
            return model
        if not beside:
            torch.compiler.reset()
        mode = "default" if beside else self.mode
        forward: Callable[[Tensor], Tensor] = torch.compile(model, mode=mode)
        return forward


def computing_on(device: torch.device, compute: Compute) -> Computing:
    """Return how to compute on a device; what is `auto` is decided here."""
    on_cuda = device.type == "cuda"
    bfloat16 = compute.precision == "bfloat16"
    if compute.precision == "auto" and on_cuda:
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    channels_last = on_cuda if compute.channels_last == "auto" else compute.channels_last == "on"
    return Computing(
        device,
        bfloat16=bfloat16,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        mode=None if compute.compile == "off" else compute.compile,
    )

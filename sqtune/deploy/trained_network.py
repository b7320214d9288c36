"""A trained network as users call it: pixels in, logits out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sqtune.config.trial import TrialConfig
from sqtune.data.batches import Normalize
from sqtune.errors import NetworkError
from sqtune.train.checkpoint import About


class TrainedNetwork(nn.Module):
    """A trained network that takes pixels as files have them, in evaluation mode.

    Its weights are codes times scales, bit for bit those that were evaluated, and low-bit
    activations act where they were trained. Gradients are switched off.

    Attributes:
        network: The network itself, which takes normalised float32 images, N x C x H x W.
        config: The trial's configuration.
        classes: Class names, one per logit.
        image_shape: Channels, height and width of an image.
        mean: Input normalisation, per channel, of values in 0..1.
        std: Likewise.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrialConfig,
        about: About,
        inputs: Iterable[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.classes, self.mean, self.std = about.classes, about.mean, about.std
        self.image_shape = (about.num_channels, *about.image_size)
        self._inputs = nn.ModuleList(inputs)  # the hooks' tensors move with the network's
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (float32, N x classes) of images (uint8, N x C x H x W).

        Raises:
            NetworkError: They are of another type or shape.
        """
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != self.image_shape:
            expected = " x ".join(map(str, self.image_shape))
            raise NetworkError(
                f"the network takes images of type uint8 and shape N x {expected}, not "
                f"{str(pixels.dtype).removeprefix('torch.')} and {tuple(pixels.shape)}. Images "
                "that are normalised already go into its attribute network."
            )
        logits: Tensor = self.network(Normalize(self.mean, self.std, pixels.device)(pixels))
        return logits

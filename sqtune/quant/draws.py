"""One draw for all layers: the mask of all rows from their errors, in few operations.

The noise is drawn once, in the order of the model's layers, as `sqtune.quant.reference` draws it.
Layers with equally many rows are one matrix.

Shape names: R rows of all layers; L layers of M rows each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sqtune.quant.layers import Layer
from sqtune.quant.layout import Blocks
from sqtune.quant.selection import gumbel, log_weights, num_drawn, num_quantized
from sqtune.quant.spec import Selection


@dataclass(frozen=True, slots=True)
class Draw:
    """What a draw at one ratio does.

    Attributes:
        blocks: The rows of all layers.
        nums: For each block, how many of a layer's rows are quantized.
        noise_R: Where each row's number stands in the noise; 0 for rows that take none.
        num_noise: Numbers to draw.
    """

    blocks: Blocks
    nums: tuple[int, ...]
    noise_R: Tensor
    num_noise: int

    @classmethod
    def plan(
        cls, layers: Sequence[Layer], blocks: Blocks, ratio: float, selection: Selection
    ) -> Draw:
        """Plan a draw.

        Args:
            layers: In the model's order.
            blocks: The same.
            ratio: Share of the rows, in 0..1.
            selection: How they are chosen.
        """
        noise_from, num_noise = {}, 0
        for layer in layers:
            noise_from[layer.name] = num_noise
            num_noise += num_drawn(layer.num_rows, ratio, selection)
        places = []
        for layer in blocks.layers:
            start = noise_from[layer.name]
            takes = num_drawn(layer.num_rows, ratio, selection) > 0
            none = torch.zeros(layer.num_rows, dtype=torch.int64)
            places.append(torch.arange(start, start + layer.num_rows) if takes else none)
        nums = tuple(num_quantized(ratio, num_rows) for _, num_rows in blocks.sizes)
        return cls(blocks, nums, torch.cat(places).to(blocks.order.device), num_noise)

    def write_mask(
        self, mask: Tensor, error: Tensor, selection: Selection, generator: torch.Generator
    ) -> None:
        """Write 1 for the rows to quantize and 0 for the others.

        Args:
            mask: Of all rows, R x 1.
            error: Likewise.
            selection: How rows are chosen.
            generator: Source of the noise.
        """
        ordered_R = error[:, 0].index_select(0, self.blocks.order)
        drawn = selection.strategy != "deterministic"
        stay_real = drawn and selection.function == "error"  # the reference code draws these
        if self.num_noise:
            noise = torch.rand(self.num_noise, generator=generator, device=mask.device)
            noise_R = noise.index_select(0, self.noise_R)
            ordered_R = log_weights(ordered_R, selection.function).add_(gumbel(noise_R))
        chosen_R = torch.empty(len(ordered_R), dtype=mask.dtype, device=mask.device)
        for values_LM, mask_LM, num in zip(
            self.blocks.split(ordered_R), self.blocks.split(chosen_R), self.nums, strict=True
        ):
            num_rows = values_LM.shape[1]
            if num in (0, num_rows):
                mask_LM.fill_(float(num > 0))
                continue
            if drawn:
                taken = num_rows - num if stay_real else num
                ids_LM = values_LM.topk(taken, dim=1, sorted=False).indices
            else:
                ids_LM = values_LM.argsort(dim=1, stable=True)[:, :num]
            mask_LM.fill_(float(stay_real)).scatter_(1, ids_LM, float(not stay_real))
        mask.copy_(chosen_R.index_select(0, self.blocks.back)[:, None])

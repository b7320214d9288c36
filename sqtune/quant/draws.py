"""One draw for all layers: the mask of all rows from their errors, in one pass over a vector.

Layers with equally many rows stand beside each other in the vector, so that they are one matrix.
The noise is drawn once, in the order of the model's layers, as `sqtune.quant.reference` draws it.

Shape names: R rows of all layers; L layers of M rows each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from sqtune.quant.layers import Layer
from sqtune.quant.selection import keys, log_weights, num_drawn, num_quantized
from sqtune.quant.spec import Selection


@dataclass(frozen=True, slots=True)
class Block:
    """Layers with equally many rows.

    Attributes:
        rows: Where they lie in the vector of all rows.
        num_rows: M, of each layer.
        num: Rows of a layer that are quantized.
        noise: Where their numbers lie in the noise; None where nothing is left to chance.
    """

    rows: slice
    num_rows: int
    num: int
    noise: slice | None


@dataclass(frozen=True, slots=True)
class Draw:
    """What a draw at one ratio does.

    Attributes:
        blocks: All layers.
        noise_R: Where each row's number stands in the noise of all layers in the model's order.
    """

    blocks: tuple[Block, ...]
    noise_R: Tensor

    @classmethod
    def plan(
        cls,
        layers: Sequence[Layer],
        first_rows: Mapping[str, int],
        ratio: float,
        selection: Selection,
        device: torch.device,
    ) -> Draw:
        """Plan a draw.

        Args:
            layers: In the model's order.
            first_rows: Where each layer's rows begin in the vector of all rows.
            ratio: Share of the rows, in 0..1.
            selection: How they are chosen.
            device: Of the vectors.
        """
        noise_from, num_noise = {}, 0
        for layer in layers:
            noise_from[layer.name] = num_noise
            num_noise += num_drawn(layer.num_rows, ratio, selection)
        in_vector = sorted(layers, key=lambda layer: first_rows[layer.name])
        blocks, places, taken = [], [], 0
        for num_rows, group in groupby(in_vector, key=lambda layer: layer.num_rows):
            members = list(group)
            first = first_rows[members[0].name]
            size = len(members) * num_rows
            noise = None
            if num_drawn(num_rows, ratio, selection):
                noise = slice(taken, taken + size)
                taken += size
                for layer in members:
                    start = noise_from[layer.name]
                    places.append(torch.arange(start, start + num_rows))
            num = num_quantized(ratio, num_rows)
            blocks.append(Block(slice(first, first + size), num_rows, num, noise))
        empty = torch.zeros(0, dtype=torch.int64)
        return cls(tuple(blocks), torch.cat([empty, *places]).to(device))

    def write_mask(
        self,
        mask_R: Tensor,
        error_R: Tensor,
        selection: Selection,
        generator: torch.Generator,
    ) -> None:
        """Write 1 for the rows to quantize and 0 for the others."""
        stay_real = selection.function == "error"  # the reference code draws these
        noise_R = log_weight_R = error_R[:0]
        if len(self.noise_R):
            noise = torch.rand(len(self.noise_R), generator=generator, device=mask_R.device)
            noise_R = noise[self.noise_R]
            log_weight_R = log_weights(error_R, selection.function)
        for block in self.blocks:
            mask_LM = mask_R[block.rows].view(-1, block.num_rows)
            if block.num in (0, block.num_rows):
                mask_LM.fill_(float(block.num > 0))
            elif block.noise is None:  # deterministic
                order_LM = error_R[block.rows].view(mask_LM.shape).argsort(dim=1, stable=True)
                mask_LM.zero_().scatter_(1, order_LM[:, : block.num], 1.0)
            else:
                log_weight_LM = log_weight_R[block.rows].view(mask_LM.shape)
                key_LM = keys(log_weight_LM, noise_R[block.noise].view(mask_LM.shape))
                drawn = block.num_rows - block.num if stay_real else block.num
                ids_LM = key_LM.topk(drawn, dim=1, sorted=False).indices
                mask_LM.fill_(float(stay_real)).scatter_(1, ids_LM, float(not stay_real))

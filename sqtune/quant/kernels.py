"""The whole step for all layers at once: the fast form of `sqtune.quant.reference`.

Layers with rows of equal length (and one quantizer) are stacked into one matrix, the persistent
copy of their latent weights; every operation acts on a whole stack or on one vector with an entry
per row of the model. Masks are floats: on CPU comparisons and `where` on bools are several times
slower than arithmetic. On CUDA a step is one captured graph and waits for nothing.

Same generator state, same mask; values equal those of the reference, bit for bit on CPU.

Shape names: R rows of a stack, or of the model; K weights in a row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sqtune.errors import QuantizationError
from sqtune.quant.draws import Draw
from sqtune.quant.graphs import GraphCache
from sqtune.quant.layers import Layer, refuse_not_finite
from sqtune.quant.layout import Blocks, Stack, Vectors, stack_layers
from sqtune.quant.selection import num_quantized
from sqtune.quant.spec import Selection
from sqtune.quant.stacks import quantize_stack, relative, write_thresholds

MOST_PLANS = 8  # of draws that are kept


class Grouped:
    """Gives all layers hybrid or quantized weights and their latent ones back.

    Args:
        layers: What is quantized; all of one dtype on one device, at any time.
        selection: How rows are chosen, filter-wise.
        generator: Source of the draws.
        steps: Learned steps by layer.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        selection: Selection,
        generator: torch.Generator,
        steps: Mapping[str, Tensor],
    ) -> None:
        self._layers, self._selection, self._steps = layers, selection, steps
        self.generator = generator
        self._places: list[tuple[int, torch.dtype, tuple[int, ...]]] = []
        self._stacks: list[Stack] = []
        self._graphs: GraphCache | None = None
        self._drawn = False
        self._arrange()

    @staticmethod
    def suits(layers: Sequence[Layer], selection: Selection) -> bool:
        """Tell whether layers can be stacked."""
        kinds = {(layer.weight.dtype, layer.weight.device) for layer in layers}
        return len(kinds) == 1 and selection.granularity == "filter"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the addresses behind: a copy's weights lie elsewhere and are stacked anew."""
        return {**self.__dict__, "_places": []}

    def _arrange(self) -> None:
        """Stack the weights as they are now: they may have moved or changed their dtype."""
        masks, counts = (self.masks(), self.counts()) if self._stacks else ({}, {})
        self._places = self._now()
        if not self.suits(self._layers, self._selection):
            raise QuantizationError(
                "the quantized weights no longer have one dtype and device. Convert the whole "
                "model, or make a new StochasticQuantization."
            )
        weight = self._layers[0].weight.detach()
        num_rows = sum(layer.num_rows for layer in self._layers)
        self._all = Vectors.zeros(num_rows, weight)
        self._count_R = torch.zeros(num_rows, device=weight.device)
        self._stacks = stack_layers(self._layers, self._all)
        in_order = [layer for stack in self._stacks for layer in stack.layers]
        ends = itertools.accumulate(layer.num_rows for layer in in_order)
        self._first_rows = {
            layer.name: end - layer.num_rows for layer, end in zip(in_order, ends, strict=True)
        }
        self._blocks = Blocks.of(self._layers, self._first_rows, weight.device)
        sizes = [[layer.weight.numel()] * layer.num_rows for layer in in_order]
        self._num_weights = weight.new_tensor(list(itertools.chain(*sizes)))[:, None]
        self._not_finite = torch.zeros((), dtype=torch.bool, device=weight.device)
        self._draws: dict[tuple[int, ...], Draw] = {}
        if self._graphs is not None:
            self._graphs.forget()
        self._graphs = GraphCache(self.generator, weight.device) if weight.is_cuda else None
        self._kept = [view for stack in self._stacks for view in stack.kept]
        self._weights = [view for stack in self._stacks for view in stack.weights]
        self.set_masks(masks)
        self.set_counts(counts)

    def _now(self) -> list[tuple[int, torch.dtype, tuple[int, ...]]]:
        weights = [layer.weight for layer in self._layers]
        return [(weight.data_ptr(), weight.dtype, weight.stride()) for weight in weights]

    def save(self) -> None:
        """Copy the latent weights aside."""
        if self._now() != self._places:
            self._arrange()
        torch._foreach_copy_(self._kept, self._weights)

    def restore(self) -> None:
        """Put the latent weights back."""
        torch._foreach_copy_(self._weights, self._kept)

    def write_quantized(self) -> None:
        """Give every layer quantized weights."""
        levels = self._levels(with_error=False, wait=True)
        for stack, levels_RK in zip(self._stacks, levels, strict=True):
            levels_RK.mul_(stack.vectors.scale)
        self._write(levels)

    def write_hybrid(self, ratio: float | None, *, count: bool) -> None:
        """Give every layer hybrid weights: rows drawn at `ratio`; None keeps the last draw.

        `count` adds them to the `counts`.
        """
        draw = None if ratio is None else self._draw_at(ratio)
        self._drawn = self._drawn or draw is not None
        if self._graphs is None:
            self._hybrid_step(draw, count=count, wait=True)
        else:
            key = None if ratio is None else self._counts_at(ratio)
            step = partial(self._hybrid_step, draw, count=count, wait=False)
            self._graphs.run((key, count), step)

    def _hybrid_step(self, draw: Draw | None, *, count: bool, wait: bool) -> None:
        """Quantize, draw and write."""
        vectors = self._all
        levels = self._levels(with_error=draw is not None, wait=wait)
        if draw is not None:
            draw.write_mask(vectors.mask, vectors.error, self._selection, self.generator)
        if count:
            self._count_R += vectors.mask[:, 0]
        torch.sub(1, vectors.mask, out=vectors.real)
        torch.mul(vectors.scale, vectors.mask, out=vectors.drawn_scale)
        for stack, levels_RK in zip(self._stacks, levels, strict=True):
            levels_RK.mul_(stack.vectors.drawn_scale)
            levels_RK.addcmul_(stack.latent_RK, stack.vectors.real)
        self._write(levels)

    def _write(self, values: Sequence[Tensor]) -> None:
        """Copy stacked values into the parameters."""
        pairs = zip(self._stacks, values, strict=True)
        parts = [part for stack, values_RK in pairs for part in stack.split(values_RK)]
        torch._foreach_copy_(self._weights, parts)

    def _levels(self, *, with_error: bool, wait: bool) -> list[Tensor]:
        """Return each stack's levels; write scales, and errors of all rows, if they are wanted.

        Weights that are not finite are an error: at once, or, where nothing may `wait` for the
        device, at the next `refuse_not_finite`.
        """
        vectors = self._all
        write_thresholds(self._stacks, vectors, self._blocks, self._num_weights)
        levels = []
        for stack in self._stacks:
            steps = [self._steps[layer.name] for layer in stack.layers if layer.name in self._steps]
            step_R = torch.cat([step.detach() for step in steps]) if steps else None
            levels.append(quantize_stack(stack, step_R, with_error=with_error))
        if with_error:
            vectors.error.copy_(relative(vectors.error, vectors.norm))
        total = (vectors.norm.double() + vectors.scale).sum()
        if not wait:
            self._not_finite.logical_or_(~total.isfinite())
        elif not math.isfinite(total.item()):
            refuse_not_finite(self._layers, self._steps)
        return levels

    def _counts_at(self, ratio: float) -> tuple[int, ...]:
        """Return how many rows a ratio quantizes, for each number of rows that layers have."""
        return tuple(num_quantized(ratio, num_rows) for _, num_rows in self._blocks.sizes)

    def _draw_at(self, ratio: float) -> Draw:
        """Plan a draw; ratios that quantize equally many rows share a plan."""
        key = self._counts_at(ratio)
        if key not in self._draws:
            if len(self._draws) >= MOST_PLANS:
                self._draws.clear()
            self._draws[key] = Draw.plan(self._layers, self._blocks, ratio, self._selection)
        return self._draws[key]

    def refuse_not_finite(self) -> None:
        """Raise QuantizationError where a weight was not finite since the last look (CUDA)."""
        if self._not_finite.item():
            self._not_finite.zero_()
            refuse_not_finite(self._layers, self._steps)

    def _by_layer(self, values_R: Tensor) -> dict[str, Tensor]:
        """Return a vector of all rows layer by layer, in the model's order."""
        firsts = self._first_rows
        return {
            layer.name: values_R[firsts[layer.name] : firsts[layer.name] + layer.num_rows]
            for layer in self._layers
        }

    def latent(self) -> dict[str, Tensor]:
        """Return the latent weights as rows, by layer, inside a block."""
        latent: dict[str, Tensor] = {}
        for stack in self._stacks:
            parts = stack.latent_RK.split([layer.num_rows for layer in stack.layers])
            latent |= {layer.name: part for layer, part in zip(stack.layers, parts, strict=True)}
        return latent

    def masks(self) -> dict[str, Tensor]:
        """Return which rows were quantized at the last draw (bool), by layer; empty before one."""
        return self._by_layer(self._all.mask[:, 0].bool()) if self._drawn else {}

    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Take up what `masks` returned."""
        self._drawn = bool(masks)
        for name, part in self._by_layer(self._all.mask[:, 0]).items() if masks else ():
            part.copy_(masks[name])

    def has_masks(self) -> bool:
        """Tell whether there is a last draw."""
        return self._drawn

    def counts(self) -> dict[str, Tensor]:
        """Return how often each row was quantized since `set_counts`, by layer (float32)."""
        return {name: part.clone() for name, part in self._by_layer(self._count_R).items()}

    def set_counts(self, counts: Mapping[str, Tensor]) -> None:
        """Take up what `counts` returned; an empty one starts anew."""
        self._count_R.zero_()
        for name, part in self._by_layer(self._count_R).items() if counts else ():
            part.copy_(counts[name])

"""StochasticQuantization: the method as an in-place guest of a plain model and anyone's loop.

    sq = StochasticQuantization(model, Binary(), Exponential(), generator=generator)
    for x, y in batches:
        optimizer.zero_grad()
        with sq.hybrid(progress):              # weights are hybrid inside, latent outside
            loss = criterion(model(x), y)
            loss.backward()
        optimizer.step()                       # latent weights, gradient taken at the hybrid ones
    with sq.quantized():
        evaluate(model)                        # what would be deployed
    layers = sq.freeze()                       # quantized for good; integer codes and scales

The model keeps its modules, its state_dict keys and its parameters; only values change, under
`torch.no_grad()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sqtune.errors import QuantizationError
from sqtune.quant.quantizers import QuantizedRows, quantize_rows, row_errors
from sqtune.quant.schedule import Schedule, Stages
from sqtune.quant.selection import select_rows
from sqtune.quant.spec import Float, Quantizer, Selection

QUANTIZABLE = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """One layer's weights as integers: weight == (codes + offset) * scale, bit for bit.

    Attributes:
        codes: int8, in the weight's own shape (rows first).
        scale_O: One scale per row.
        offset: 0.5 for the 2-bit grid, otherwise 0.
    """

    codes: Tensor
    scale_O: Tensor
    offset: float

    def values(self) -> Tensor:
        """Return the quantized weights in the weight's own shape."""
        rows = QuantizedRows(self.codes.flatten(1), self.scale_O, self.offset)
        return rows.values().reshape(self.codes.shape)


@dataclass(slots=True)
class _Layer:
    """A weight that is quantized, with what the method keeps beside it."""

    name: str
    weight: nn.Parameter
    latent: Tensor | None = None  # the float weights, while the parameter holds others
    mask_M: Tensor | None = None  # rows quantized at the last draw

    def keep_latent(self) -> Tensor:
        """Copy the weight aside and return the copy."""
        kept, weight = self.latent, self.weight
        if kept is None or (kept.shape, kept.dtype, kept.device) != (
            weight.shape,
            weight.dtype,
            weight.device,
        ):
            kept = self.latent = torch.empty_like(weight)
        return kept.copy_(weight)


def quantizable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights the method acts on, by parameter name: Conv1d, Conv2d, Linear.

    A weight that several modules share is named once.
    """
    weights: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        weight = module.weight if isinstance(module, QUANTIZABLE) else None
        if isinstance(weight, nn.Parameter) and id(weight) not in seen:
            seen.add(id(weight))
            weights[f"{name}.weight" if name else "weight"] = weight
    return weights


class StochasticQuantization:
    """Stochastic Quantization of a model's weights, in place (the paper, algorithm 1).

    Args:
        model: Any module. Its Conv1d, Conv2d and Linear weights are quantized, the first and the
            last layer included; biases and normalisation stay float.
        quantizer: Binary(), Ternary(), Uniform(bits) or Float().
        schedule: The ratio as a function of progress; by default 1 from the start.
        selection: How rows are chosen while the ratio is below 1.
        generator: Source of the draws, on the weights' device; by default one seeded with 0.

    Raises:
        QuantizationError: The model has no layer that can be quantized.
    """

    def __init__(
        self,
        model: nn.Module,
        quantizer: Quantizer,
        schedule: Schedule | None = None,
        *,
        selection: Selection | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        weights = quantizable_weights(model)
        if not weights:
            raise QuantizationError(
                f"{type(model).__name__} has no layer to quantize: "
                "Conv1d, Conv2d and Linear are known."
            )
        self.quantizer = quantizer
        self.schedule: Schedule = schedule or Stages()
        self.selection = selection or Selection()
        device = next(iter(weights.values())).device
        self.generator = generator or torch.Generator(device).manual_seed(0)
        self._layers = [_Layer(name, weight) for name, weight in weights.items()]
        self._drawn_ratio: float | None = None
        self._inside = False

    @contextmanager
    def hybrid(
        self, progress: float | None = None, *, ratio: float | None = None, redraw: bool = True
    ) -> Iterator[None]:
        """Give the model hybrid weights inside the block, and its latent ones back after it.

        One draw is made at entry. Run forward and backward inside, `optimizer.step()` outside.

        Args:
            progress: Training progress in 0..1, from which the schedule gives the ratio.
            ratio: The ratio in 0..1 itself, instead of `progress`.
            redraw: False keeps the rows of the last draw (to evaluate what was trained).

        Raises:
            QuantizationError: Not exactly one of progress and ratio, one outside 0..1, or a
                block inside another.
        """
        if (progress is None) == (ratio is None):
            raise QuantizationError("hybrid() takes either progress or ratio.")
        if ratio is None:
            ratio = self.schedule.ratio(progress)  # type: ignore[arg-type]
        if not 0 <= ratio <= 1:
            raise QuantizationError(f"a ratio is in [0, 1], not {ratio}.")
        with self._replaced(lambda layer: self._hybrid_weight(layer, ratio, redraw)):
            if redraw or self._drawn_ratio is None:
                self._drawn_ratio = ratio
            yield

    @contextmanager
    def quantized(self) -> Iterator[None]:
        """Give the model fully quantized weights inside the block, its latent ones after it."""
        with self._replaced(self._quantized_weight):
            yield

    def freeze(self) -> dict[str, FrozenLayer]:
        """Quantize the weights for good and return codes and scales by parameter name.

        Empty for Float.
        """
        self._enter()
        self._inside = False
        if isinstance(self.quantizer, Float):
            return {}
        frozen = {}
        with torch.no_grad():
            for layer in self._layers:
                rows = quantize_rows(layer.weight.flatten(1), self.quantizer)
                codes = rows.codes_OK.reshape(layer.weight.shape)
                frozen[layer.name] = FrozenLayer(codes, rows.scale_O, rows.offset)
                layer.weight.copy_(frozen[layer.name].values())
        torch.clear_autocast_cache()
        return frozen

    @torch.no_grad()
    def mean_error(self) -> Tensor:
        """Return the mean relative quantization error of all filters (0-d tensor; 0 for Float)."""
        if isinstance(self.quantizer, Float):
            return torch.zeros((), device=self._layers[0].weight.device)
        errors = []
        for layer in self._layers:
            w_OK = layer.weight.flatten(1)
            errors.append(row_errors(w_OK, quantize_rows(w_OK, self.quantizer).values()))
        return torch.cat(errors).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs: the generator's state and the last draw's rows."""
        return {
            "generator": self.generator.get_state(),
            "drawn_ratio": self._drawn_ratio,
            "masks": {
                layer.name: layer.mask_M.clone()
                for layer in self._layers
                if layer.mask_M is not None
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that `state_dict` returned."""
        self.generator.set_state(state["generator"])
        self._drawn_ratio = state["drawn_ratio"]
        for layer in self._layers:
            mask_M = state["masks"].get(layer.name)
            layer.mask_M = None if mask_M is None else mask_M.to(layer.weight.device)

    def _enter(self) -> None:
        if self._inside:
            raise QuantizationError("hybrid(), quantized() and freeze() cannot be nested.")
        self._inside = True

    @contextmanager
    def _replaced(self, replacement: Any) -> Iterator[None]:
        """Set every weight to replacement(layer) inside the block; whatever happens, restore it."""
        self._enter()
        changed: list[tuple[_Layer, Tensor]] = []
        try:
            with torch.no_grad():
                for layer in self._layers:
                    weight = replacement(layer)
                    if weight is not None:
                        changed.append((layer, layer.keep_latent()))
                        layer.weight.copy_(weight)
            torch.clear_autocast_cache()
            yield
        finally:
            with torch.no_grad():
                for layer, latent in changed:
                    layer.weight.copy_(latent)
            torch.clear_autocast_cache()
            self._inside = False

    def _quantized_weight(self, layer: _Layer) -> Tensor | None:
        if isinstance(self.quantizer, Float):
            return None
        rows = quantize_rows(layer.weight.flatten(1), self.quantizer)
        return rows.values().reshape(layer.weight.shape)

    def _hybrid_weight(self, layer: _Layer, ratio: float, redraw: bool) -> Tensor | None:
        """Return the layer's hybrid weights, or None where they are the latent ones."""
        if isinstance(self.quantizer, Float):
            return None
        kept = self.selection.strategy == "fixed" and ratio == self._drawn_ratio
        keep = layer.mask_M is not None and (kept or not redraw)
        if not keep and ratio == 0:
            layer.mask_M = None
            return None
        w_OK = layer.weight.flatten(1)
        q_OK = quantize_rows(w_OK, self.quantizer).values()
        by_element = self.selection.granularity == "element"
        if not keep:
            error_M = row_errors(
                w_OK.reshape(-1, 1) if by_element else w_OK,
                q_OK.reshape(-1, 1) if by_element else q_OK,
            )
            layer.mask_M = select_rows(error_M, ratio, self.selection, self.generator)
        assert layer.mask_M is not None
        mask = layer.mask_M.reshape(w_OK.shape) if by_element else layer.mask_M[:, None]
        return torch.where(mask, q_OK, w_OK).reshape(layer.weight.shape)

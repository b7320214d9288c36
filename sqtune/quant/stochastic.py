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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from sqtune.errors import QuantizationError
from sqtune.quant.activations import LowBitActivations
from sqtune.quant.diagnostics import Diagnostics, LayerDiagnostics
from sqtune.quant.frozen import FrozenLayer, freeze_layer
from sqtune.quant.kernels import Grouped
from sqtune.quant.layers import find_layers, refuse_not_finite
from sqtune.quant.learned import LearnedSteps
from sqtune.quant.reference import PerLayer
from sqtune.quant.schedule import Schedule, Stages
from sqtune.quant.spec import Activations, LayerRule, Quantizer, Selection


class StochasticQuantization:
    """Stochastic Quantization of a model's weights, in place (the paper, algorithm 1).

    Args:
        model: Any module, on its device already. The weights of its convolutions and Linear layers
            are quantized, the first and the last layer included; biases and normalisation stay
            float.
        quantizer: Binary(), Ternary(), Uniform(bits), LearnedUniform(bits), LearnedTernary() or
            Float().
        schedule: The ratio as a function of progress; by default 1 from the start.
        selection: How rows are chosen while the ratio is below 1.
        generator: Source of the draws, on the weights' device; by default one seeded with 0.
        rules: Layers with a quantizer of their own; the first rule that matches acts.
        activations: What the inputs of quantized layers are quantized to; None leaves them float.
        process_group: Processes that train the model together (DDP). Every process draws the same
            rows from equal generators; the group averages the gradients of `parameters()`, which
            are no part of the wrapped model, and the first clipping points.
        step: "grouped" does all layers at once; "per_layer" is the plain reference, which equals
            it. Draws of single weights, and models of mixed dtypes, always take the latter.

    Raises:
        QuantizationError: The model has no layer that can be quantized, or a rule acts on none.
    """

    def __init__(
        self,
        model: nn.Module,
        quantizer: Quantizer,
        schedule: Schedule | None = None,
        *,
        selection: Selection | None = None,
        generator: torch.Generator | None = None,
        rules: Sequence[LayerRule] = (),
        activations: Activations | None = None,
        process_group: distributed.ProcessGroup | None = None,
        step: Literal["grouped", "per_layer"] = "grouped",
    ) -> None:
        self._layers, assigned = find_layers(model, quantizer, rules)
        self.quantizer = quantizer
        self.schedule: Schedule = schedule or Stages()
        self.selection = selection or Selection()
        self._device = next(model.parameters()).device
        self.generator = generator or torch.Generator(self._device).manual_seed(0)
        self._learned = LearnedSteps(self._layers)
        suits = Grouped.suits(self._layers, self.selection)
        kind = Grouped if suits and step == "grouped" else PerLayer
        self._step = kind(self._layers, self.selection, self.generator, self._learned.steps)
        self._activations = (
            None
            if activations is None
            else LowBitActivations(model, assigned, activations, process_group)
        )
        self._diagnostics = Diagnostics(self._layers, self._learned.steps)
        self._num_draws = 0
        self._drawn_ratio: float | None = None
        self._inside = False

    @property
    def quantizers(self) -> dict[str, Quantizer]:
        """The quantizer of each quantized weight, by parameter name; layers kept float are out."""
        return {layer.name: layer.quantizer for layer in self._layers}

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
            QuantizationError: Not exactly one of progress and ratio, one outside 0..1, a block
                inside another, or a weight that is not finite (on CUDA that is raised at the next
                `quantized()`, `freeze()` or `diagnostics()`, so that a step waits for nothing).
        """
        if (progress is None) == (ratio is None):
            raise QuantizationError("hybrid() takes either progress or ratio.")
        if ratio is None:
            ratio = self.schedule.ratio(progress)  # type: ignore[arg-type]
        if not 0 <= ratio <= 1:
            raise QuantizationError(f"a ratio is in [0, 1], not {ratio}.")
        unchanged = self.selection.strategy == "fixed" and ratio == self._drawn_ratio
        keep = self._step.has_masks() and (unchanged or not redraw)
        drawn = None if keep else ratio
        if drawn == 0 or not self._layers:
            with self._as_it_is():
                self._step.set_masks({})
                self._note(ratio, redraw)
                yield
            return
        self._learned.prepare(training=redraw)
        with self._replaced(lambda: self._step.write_hybrid(drawn), training=redraw):
            self._num_draws += 1
            self._note(ratio, redraw)
            yield
        self._learned.take_gradients(self._step.masks())
        if self._activations is not None:
            self._activations.average_gradients()

    @contextmanager
    def quantized(self) -> Iterator[None]:
        """Give the model fully quantized weights inside the block, its latent ones after it.

        Raises:
            QuantizationError: A block inside another, or a weight that is not finite.
        """
        if not self._layers:
            with self._as_it_is():
                yield
            return
        self._learned.prepare(training=False)
        with self._replaced(self._step.write_quantized, training=False):
            yield

    def codes(self) -> dict[str, FrozenLayer]:
        """Return codes and scales by parameter name, as `freeze` does; the model stays as it is.

        Raises:
            QuantizationError: Inside a block, or a weight is not finite.
        """
        self._enter()
        self._inside = False
        refuse_not_finite(self._layers)
        self._learned.prepare(training=False)
        steps = self._learned.steps
        return {layer.name: freeze_layer(layer, steps.get(layer.name)) for layer in self._layers}

    def freeze(self) -> dict[str, FrozenLayer]:
        """Quantize the weights for good and return codes and scales by parameter name.

        Layers kept float are out. Low-bit activations stay switched on.

        Raises:
            QuantizationError: Inside a block, or a weight is not finite.
        """
        frozen = self.codes()
        with torch.no_grad():
            for layer in self._layers:
                layer.weight.copy_(frozen[layer.name].values())
        if self._activations is not None:
            self._activations.switch_on(training=False)
        torch.clear_autocast_cache()
        return frozen

    def parameters(self) -> list[nn.Parameter]:
        """Return what is learned beside the model's own parameters: give it to the optimizer.

        Steps of the learned quantizers, one a row, and clipping points of activations, one a layer.
        """
        steps = list(self._learned.steps.values())
        return steps if self._activations is None else steps + self._activations.parameters()

    @torch.no_grad()
    def diagnostics(self) -> dict[str, LayerDiagnostics]:
        """Return what happened to each layer since the last call, by parameter name."""
        self._step.refuse_not_finite()
        found = self._diagnostics.take(self._step.counts(), self._num_draws)
        self._step.set_counts({})
        self._num_draws = 0
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs: generator, last draw, learned steps, counts, codes."""
        return {
            "generator": self.generator.get_state(),
            "drawn_ratio": self._drawn_ratio,
            "masks": self._step.masks(),
            "counts": self._step.counts(),
            "num_draws": self._num_draws,
            "learned": self._learned.state_dict(),
            "activations": None if self._activations is None else self._activations.state_dict(),
            "diagnostics": self._diagnostics.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that `state_dict` returned."""
        self.generator.set_state(state["generator"])
        self._drawn_ratio = state["drawn_ratio"]
        self._step.set_masks(state["masks"])
        self._step.set_counts(state["counts"])
        self._num_draws = state["num_draws"]
        self._learned.load_state_dict(state["learned"])
        if self._activations is not None:
            self._activations.load_state_dict(state["activations"])
        self._diagnostics.load_state_dict(state["diagnostics"])

    def learned_tensors(self) -> dict[str, Tensor]:
        """Return, by name, what a trained network needs beside its weights to be quantized again.

        Empty where neither a quantizer nor an activation learns anything.
        """
        steps = self._learned.state_dict()["steps"]
        tensors = {f"step/{name}": step_O for name, step_O in steps.items()}
        quantizers = {} if self._activations is None else self._activations.quantizers
        for name, quantizer in quantizers.items():
            for key, value in quantizer.state_dict().items():
                tensors[f"activation/{name}/{key}"] = value.clone()
        return tensors

    def load_learned_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `learned_tensors` of a trained network returned.

        Raises:
            KeyError: Something is missing.
        """
        steps = {name: tensors[f"step/{name}"] for name in self._learned.steps}
        self._learned.load_state_dict({"started": True, "steps": steps})
        if self._activations is not None:
            layers = {
                name: {
                    "started": True,
                    **{key: tensors[f"activation/{name}/{key}"] for key in quantizer.state_dict()},
                }
                for name, quantizer in self._activations.quantizers.items()
            }
            self._activations.load_state_dict({"trained": True, "layers": layers})

    def _note(self, ratio: float, redraw: bool) -> None:
        if redraw or self._drawn_ratio is None:
            self._drawn_ratio = ratio

    def _enter(self) -> None:
        if self._inside:
            raise QuantizationError("hybrid(), quantized() and freeze() cannot be nested.")
        self._inside = True

    @contextmanager
    def _as_it_is(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._inside = False

    @contextmanager
    def _replaced(self, write: Callable[[], None], *, training: bool) -> Iterator[None]:
        """Let `write` change the weights for the block; whatever happens, restore them."""
        self._enter()
        saved = False
        try:
            with torch.no_grad():
                self._step.save()
                saved = True
                write()
            torch.clear_autocast_cache()
            if self._activations is not None:
                self._activations.switch_on(training=training)
            yield
        finally:
            if self._activations is not None:
                self._activations.switch_off()
            if saved:
                with torch.no_grad():
                    self._step.restore()
            torch.clear_autocast_cache()
            self._inside = False

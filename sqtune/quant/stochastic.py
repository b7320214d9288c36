"""StochasticQuantization: the method as an in-place guest of a plain model and anyone's loop.

    sq = StochasticQuantization(model, Binary(), Exponential())
    for x, y in batches:
        optimizer.zero_grad()
        with sq.hybrid(progress):
            criterion(model(x), y).backward()
        optimizer.step()
    layers = sq.freeze()

The model keeps its modules, its state_dict keys and its parameters; only values change, under
`torch.no_grad()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import distributed, nn

from sqtune.errors import QuantizationError
from sqtune.quant.activations import LowBitActivations
from sqtune.quant.diagnostics import Diagnostics, LayerDiagnostics
from sqtune.quant.frozen import FrozenLayer, freeze_layer
from sqtune.quant.kernels import Grouped
from sqtune.quant.layers import find_layers, refuse_not_finite, refuse_replaced
from sqtune.quant.learned import LearnedSteps, average_gradients
from sqtune.quant.reference import PerLayer
from sqtune.quant.schedule import Schedule, Stages
from sqtune.quant.spec import Activations, LayerRule, Quantizer, Selection
from sqtune.quant.state import refuse_other_state


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
        self._process_group = process_group
        device = next(model.parameters()).device
        self.generator = generator or torch.Generator(device).manual_seed(0)
        self._learned = LearnedSteps(self._layers)
        grouped = step == "grouped" and Grouped.suits(self._layers, self.selection)
        kind = Grouped if grouped else PerLayer
        self._step = kind(self._layers, self.selection, self.generator, self._learned.steps)
        self._activations: LowBitActivations | None = None
        if activations is not None:
            self._activations = LowBitActivations(model, assigned, activations, process_group)
        self._diagnostics = Diagnostics(self._layers, self._learned.steps)
        self._num_draws = 0
        self._drawn_ratio: float | None = None
        self._frozen: dict[str, FrozenLayer] | None = None
        self._inside = False
        self._saved = False

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
            redraw: False keeps the rows of the last draw, if there is one, and is no step of
                training: to evaluate what was trained.

        Raises:
            QuantizationError: Not exactly one of progress and ratio, one outside 0..1, a block
                inside another, weights that were changed inside the block, or one that is not
                finite (on CUDA that is raised at the next `quantized()`, `freeze()` or
                `diagnostics()`, so that a step waits for nothing).
        """
        if (progress is None) == (ratio is None):
            raise QuantizationError("hybrid() takes either progress or ratio: give one of them.")
        if ratio is None:
            ratio = self.schedule.ratio(progress)  # type: ignore[arg-type]
        if not 0 <= ratio <= 1:
            raise QuantizationError(f"a ratio is in [0, 1], not {ratio}.")
        if self._frozen is not None:
            raise QuantizationError("the model is frozen: there are no latent weights to train.")
        unchanged = self.selection.strategy == "fixed" and ratio == self._drawn_ratio
        keep = self._step.has_masks() and (unchanged or not redraw)
        if not self._layers or (ratio == 0 and not keep):
            with self._block():
                self._step.set_masks({})
                self._note(ratio, redraw)
                yield
            return
        drawn = None if keep else ratio
        write = partial(self._step.write_hybrid, drawn, count=redraw)
        with self._block(write, training=redraw):
            self._note(ratio, redraw)
            yield
        if redraw:
            average_gradients(self.parameters(), self._process_group)

    @contextmanager
    def quantized(self) -> Iterator[None]:
        """Give the model fully quantized weights inside the block, its latent ones after it.

        Raises:
            QuantizationError: A block inside another, or a weight that is not finite.
        """
        nothing = not self._layers or self._frozen is not None
        with self._block(None if nothing else self._step.write_quantized):
            yield

    def codes(self) -> dict[str, FrozenLayer]:
        """Return codes and scales by parameter name, as `freeze` does; the model stays as it is.

        Raises:
            QuantizationError: Inside a block, or a weight is not finite.
        """
        if self._frozen is not None:
            return dict(self._frozen)
        with self._block():
            self._learned.prepare()
            steps = self._learned.steps
            refuse_not_finite(self._layers, steps)
            return {each.name: freeze_layer(each, steps.get(each.name)) for each in self._layers}

    def freeze(self) -> dict[str, FrozenLayer]:
        """Quantize the weights for good and return codes and scales by parameter name.

        Layers kept float are out. Low-bit activations stay switched on. To train on, make a new
        guest.

        Raises:
            QuantizationError: Inside a block, or a weight is not finite.
        """
        self._frozen = self.codes()
        with torch.no_grad():
            for layer in self._layers:
                layer.weight.copy_(self._frozen[layer.name].values())
        if self._activations is not None:
            self._activations.stay_on()
        torch.clear_autocast_cache()
        return dict(self._frozen)

    def detach(self) -> None:
        """Take the hooks of low-bit activations off the model; the guest is of no use after it."""
        if self._activations is not None:
            self._activations.detach()

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
            "shapes": {layer.name: tuple(layer.weight.shape) for layer in self._layers},
            "granularity": self.selection.granularity,
            "generator": self.generator.get_state(),
            "drawn_ratio": self._drawn_ratio,
            "masks": self._step.masks(),
            "counts": self._step.counts(),
            "num_draws": self._num_draws,
            **self._learned.state_dict(),
            "activations": {} if self._activations is None else self._activations.state_dict(),
            "codes": self._diagnostics.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that `state_dict` returned.

        Raises:
            QuantizationError: It belongs to another model, quantizer or selection; nothing changed.
        """
        refuse_other_state(state, self.state_dict())
        self.generator.set_state(state["generator"].cpu())
        self._drawn_ratio = state["drawn_ratio"]
        self._step.set_masks(state["masks"])
        self._step.set_counts(state["counts"])
        self._num_draws = state["num_draws"]
        self._learned.load_state_dict(state)
        if self._activations is not None:
            self._activations.load_state_dict(state["activations"])
        self._diagnostics.load_state_dict(state["codes"])

    def _note(self, ratio: float, redraw: bool) -> None:
        self._num_draws += redraw
        if redraw or self._drawn_ratio is None:
            self._drawn_ratio = ratio

    @contextmanager
    def _block(
        self, write: Callable[[], None] | None = None, *, training: bool = False
    ) -> Iterator[None]:
        """Let `write` change the weights for the block; whatever happens, restore them."""
        if self._inside:
            raise QuantizationError("hybrid(), quantized() and freeze() cannot be nested.")
        try:
            self._inside = True
            refuse_replaced(self._layers)
            self._restore()  # an interrupted block may not have come to it
            if write is None:
                yield
                return
            with torch.inference_mode(False), torch.no_grad():
                self._step.save()
                self._saved = True
                self._learned.prepare()
                write()
            self._learned.started = self._learned.started or training
            torch.clear_autocast_cache()
            if self._activations is not None:
                self._activations.switch_on(training=training)
            versions = [layer.weight._version for layer in self._layers]
            if training:
                with self._learned.taking_gradients(self._step.latent, self._step.masks):
                    yield
            else:
                yield
            if versions != [layer.weight._version for layer in self._layers]:
                raise QuantizationError(
                    "weights changed inside the block, which would be lost at its end. Update "
                    "them (optimizer.step(), load_state_dict()) outside of it."
                )
        finally:
            try:
                self._restore()
            finally:
                self._inside = False
                if self._activations is not None:
                    self._activations.switch_off()
                torch.clear_autocast_cache()

    def _restore(self) -> None:
        if self._saved:
            with torch.inference_mode(False), torch.no_grad():
                self._step.restore()
            self._saved = False

    def __getstate__(self) -> dict[str, Any]:
        """Copy the guest; the copy trains alone."""
        if self._inside:
            raise QuantizationError("a guest cannot be copied inside a block: its model is hybrid.")
        return {**self.__dict__, "_process_group": None}

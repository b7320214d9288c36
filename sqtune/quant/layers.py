"""Layers: which weights of a model the method acts on, and how a weight lies as rows.

A row holds the weights of one output filter or neuron. Its weights are taken in the order in which
they lie in memory, so that rows of a channels_last weight are views too.

Shape names: O rows (output channels), K weights in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sqtune.errors import QuantizationError
from sqtune.quant.rules import assign_quantizers
from sqtune.quant.spec import Float, LayerRule, Quantizer

ROWS_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
QUANTIZABLE = (*ROWS_FIRST, *TRANSPOSED)
KNOWN = "convolutions of 1 to 3 dimensions, their transposed forms and Linear"


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight that is quantized.

    Attributes:
        name: Of its parameter, such as "stem.weight".
        module: Whose weight it is; of several that share it the first.
        weight: The parameter.
        quantizer: What it is quantized to; never Float.
        groups: 0 where the weight's first dimension is the rows'; for a transposed convolution its
            number of groups.
    """

    name: str
    module: nn.Module
    weight: nn.Parameter
    quantizer: Quantizer
    groups: int

    @property
    def num_rows(self) -> int:
        """Output channels."""
        return num_rows(self.weight, self.groups)


def num_rows(weight: Tensor, groups: int) -> int:
    """Return the number of output channels of a weight."""
    return weight.shape[1] * groups if groups else weight.shape[0]


def row_view(weight: Tensor, groups: int) -> Tensor:
    """Return a view of a weight with the rows first, the rest in the order of memory.

    A transposed convolution's rows take the first two dimensions: group, channel in the group.
    """
    if groups:
        by_group: Tensor = weight.unflatten(0, (groups, -1))
        return by_group.transpose(1, 2)
    strides = weight.stride()
    rest = sorted(range(1, weight.dim()), key=lambda dim: -strides[dim])
    return weight.permute(0, *rest)


def to_rows(weight: Tensor, groups: int = 0) -> Tensor:
    """Return a weight as a matrix, O x K: a view where memory allows it."""
    return row_view(weight, groups).reshape(num_rows(weight, groups), -1)


def from_rows(rows_OK: Tensor, like: Tensor, groups: int = 0) -> Tensor:
    """Return rows as a new tensor of a weight's shape and memory format, in the rows' dtype."""
    weight = torch.empty_like(like, dtype=rows_OK.dtype, device=rows_OK.device)
    view = row_view(weight, groups)
    view.copy_(rows_OK.reshape(view.shape))
    return weight


def quantizable_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules the method acts on, by name; of several that share a weight the first."""
    modules: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, QUANTIZABLE):
            weight = module._parameters.get("weight")
            if weight is None or id(weight) not in seen:
                seen.add(id(weight))
                modules[name] = module
    return modules


def quantizable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights the method acts on, by parameter name.

    These are the weights of convolutions of 1 to 3 dimensions, of their transposed forms and of
    Linear. A weight that several modules share is named once.

    Raises:
        QuantizationError: A weight cannot be changed in place.
    """
    return {
        parameter_name(name): _weight(model, name, module)
        for name, module in quantizable_modules(model).items()
    }


def _weight(model: nn.Module, name: str, module: nn.Module) -> nn.Parameter:
    """Return a module's weight.

    Raises:
        QuantizationError: It is computed anew at each use, or has no shape yet.
    """
    name = name or type(model).__name__
    weight = module._parameters.get("weight")
    if weight is None:
        raise QuantizationError(
            f"{name}: its weight is computed at each use (a parametrization such as weight norm) "
            "and cannot be quantized in place. Remove the parametrization, or keep the layer "
            f"float: LayerRule({name!r}, Float())."
        )
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise QuantizationError(
            f"{name}: its weight has no shape yet. Run one batch through the model first."
        )
    return weight


def parameter_name(module_name: str) -> str:
    """Return the name of a module's weight."""
    return f"{module_name}.weight" if module_name else "weight"


def find_layers(
    model: nn.Module, quantizer: Quantizer, rules: Sequence[LayerRule] = ()
) -> tuple[list[Layer], dict[str, Quantizer]]:
    """Return the layers to quantize, and the quantizer of every module the method could act on.

    Raises:
        QuantizationError: The model has no such layer, a rule acts on none, or a weight cannot be
            changed in place, is empty or not real floating-point.
    """
    modules = quantizable_modules(model)
    if not modules:
        raise QuantizationError(
            f"{type(model).__name__} has no layer to quantize: {KNOWN} are known."
        )
    assigned = assign_quantizers(list(modules), quantizer, rules)
    layers = []
    for name, module in modules.items():
        if isinstance(assigned[name], Float):
            continue
        weight = _weight(model, name, module)
        if not weight.is_floating_point() or weight.numel() == 0:
            raise QuantizationError(
                f"{name or type(model).__name__}: a weight of type {weight.dtype} and shape "
                f"{tuple(weight.shape)} cannot be quantized. Keep it float: "
                f"LayerRule({name!r}, Float())."
            )
        groups = module.groups if isinstance(module, TRANSPOSED) else 0
        layers.append(Layer(parameter_name(name), module, weight, assigned[name], groups))
    return layers, assigned


def refuse_replaced(layers: Sequence[Layer]) -> None:
    """Raise QuantizationError where a module has another weight than it had."""
    for layer in layers:
        if layer.module._parameters.get("weight") is not layer.weight:
            raise QuantizationError(
                f"{layer.name} was replaced by another parameter (load_state_dict with assign=True "
                "does that). Make a new StochasticQuantization."
            )


def refuse_not_finite(layers: Sequence[Layer], steps: Mapping[str, Tensor]) -> None:
    """Raise QuantizationError, naming the layer, where a row has no finite sum of |w|, or step."""
    for layer in layers:
        weight = layer.weight.detach()
        num_bad = int((~weight.isfinite()).sum())
        if num_bad:
            raise QuantizationError(
                f"{layer.name} holds {num_bad} weights that are not finite (NaN or infinite): "
                "training has diverged. Lower the learning rate."
            )
        if not to_rows(weight, layer.groups).abs().sum(dim=1).isfinite().all():
            raise QuantizationError(
                f"{layer.name} holds weights up to {weight.abs().max():.3g}, too large for "
                f"{weight.dtype}: their sum is infinite. Lower the learning rate."
            )
        if layer.name in steps and not steps[layer.name].isfinite().all():
            raise QuantizationError(
                f"{layer.name} has learned steps that are not finite (NaN or infinite): training "
                "has diverged. Lower the learning rate."
            )

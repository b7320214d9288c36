"""A trained network -> its graph: traced by torch, batch norm folded into scales and biases.

Codes are never touched: a row's scale takes up what batch norm multiplies its output by, and may
become negative. (A float exporter's own folding multiplies weights, after which no weight is a code
times a scale any more.)
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from sqtune.deploy.graph import Conv, Floats, Graph, Grid, Linear, Node, Packed, Quantize, Weight
from sqtune.deploy.operation import Operation
from sqtune.deploy.operators import OPERATORS, same_as
from sqtune.errors import ExportError
from sqtune.quant import FrozenLayer, Quantizer

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
IN_PLACE = ("_.default", "_.Tensor")  # how the names of operations that change their input end


@dataclass(frozen=True, slots=True)
class Trained:
    """What is lowered.

    Attributes:
        model: The network; its float weights are taken where a layer has no codes.
        layers: Codes and scales by parameter name.
        quantizers: Likewise.
        grids: Of the inputs of layers, by module name, where they are quantized.
        classes: Class names.
        image_shape: Channels, height and width.
        mean: Input normalisation, per channel, of values in 0..1.
        std: Likewise.
    """

    model: nn.Module
    layers: Mapping[str, FrozenLayer]
    quantizers: Mapping[str, Quantizer]
    grids: Mapping[str, Grid]
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def lower(trained: Trained) -> Graph:
    """Return the graph of a trained network.

    Raises:
        ExportError: It has an operation that no form knows; the message names the layer.
    """
    program = _traced(trained)
    lowering = _Lowering(trained, program)
    for node in program.graph.nodes:
        lowering.take(node)
    return lowering.graph()


def _traced(trained: Trained) -> torch.export.ExportedProgram:
    model = trained.model.eval()
    images = torch.zeros(2, *trained.image_shape, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            return torch.export.export(
                model, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
            )
    except Exception as error:  # whatever a network's own code or torch raises
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"{type(model).__name__} cannot be traced for any number of images: {reason}. Its "
            "forward must not depend on values, nor on how many images there are: change it."
        ) from error


class _Lowering:
    """One lowering: which value each traced node has become so far."""

    def __init__(self, trained: Trained, program: torch.export.ExportedProgram) -> None:
        self._trained = trained
        self._tensors = {**program.state_dict, **program.constants}
        self._names = {  # of parameters and buffers, by the traced node that stands for them
            spec.arg.name: spec.target
            for spec in program.graph_signature.input_specs
            if spec.target is not None
        }
        self._values: dict[fx.Node, Any] = {}  # the number of a value, or those of several
        self._nodes: list[Node] = []
        self._shapes: list[tuple[int, ...]] = []
        self._folded: set[fx.Node] = set()  # batch norms that a layer has taken up
        self._batch = ""
        self._output = 0

    def take(self, node: fx.Node) -> None:
        """Lower one traced node."""
        if node.op == "placeholder" and node.name not in self._names:
            self._values[node] = self._new_value(_shape(node))
            self._batch = str(node.meta["val"].shape[0])
        elif node.op == "output":
            results: Any = node.args[0]
            if len(results) != 1 or len(_shape(results[0])) != 1:
                what = "the network does not return one row of logits for each image"
                raise ExportError(f"{what}. Change it so that it does.")
            self._output = self._values[results[0]]
        elif node.op == "call_function" and isinstance(node.meta.get("val"), Tensor | tuple | list):
            self._call(node)

    def graph(self) -> Graph:
        """Return what was lowered, without the nodes that nothing reads."""
        needed, kept = {self._output}, []
        for node in reversed(self._nodes):
            if node.output in needed:
                kept.append(node)
                needed.update(node.inputs)
        kept.reverse()
        order = [0, *(node.output for node in kept)]
        number = {old: new for new, old in enumerate(order)}
        return Graph(
            nodes=tuple(
                replace(
                    node, inputs=tuple(number[i] for i in node.inputs), output=number[node.output]
                )
                for node in kept
            ),
            shapes=tuple(self._shapes[old] for old in order),
            output=number[self._output],
            classes=self._trained.classes,
            mean=self._trained.mean,
            std=self._trained.std,
        )

    def _call(self, node: fx.Node) -> None:
        target: Any = node.target
        args: Any = node.args
        if node in self._folded:
            self._values[node] = self._values[args[0]]
        elif target is operator.getitem:
            self._values[node] = self._values[args[0]][args[1]]
        elif same_as(node) is not None:
            self._values[node] = self._values[same_as(node)]  # type: ignore[index]
        elif target in CONVOLUTIONS:
            self._values[node] = self._convolution(node)
        elif target is aten.linear.default:
            self._values[node] = self._linear(node)
        else:
            self._values[node] = self._other(node)
        if str(target).endswith(IN_PLACE):  # whoever reads its input reads the result from here on
            self._values[args[0]] = self._values[node]

    def _convolution(self, node: fx.Node) -> int:
        image, weight, bias, stride, padding, dilation, groups = _filled(
            node, (None, None, None, 1, 0, 1, 1)
        )
        num_dims = len(_shape(node)) - 1
        weights, bias_O = self._weights(node, weight, bias)
        return self._add(
            node,
            Conv,
            (self._quantized(node, image),),
            weight=weights,
            bias_O=bias_O,
            stride=_each(stride, num_dims),
            padding=tuple((p, p) for p in _each(padding, num_dims)),
            dilation=_each(dilation, num_dims),
            groups=groups,
        )

    def _linear(self, node: fx.Node) -> int:
        image, weight, bias = _filled(node, (None, None, None))
        weights, bias_O = self._weights(node, weight, bias)
        inputs = (self._quantized(node, image),)
        return self._add(node, Linear, inputs, weight=weights, bias_O=bias_O)

    def _weights(self, node: fx.Node, weight: Any, bias: Any) -> tuple[Weight, Floats]:
        """Return a layer's weights and biases with the batch norm behind it folded in."""
        name = self._names[weight.name]
        values = self._trained.model.get_parameter(name).detach().cpu().float().numpy()
        bias_O = np.zeros(len(values)) if bias is None else self._double(bias)
        factor_O, bias_O = self._fold(node, bias_O)
        frozen = self._trained.layers.get(name)
        if frozen is None:
            shape = (-1, *[1] * (values.ndim - 1))
            folded = (values.astype(np.float64) * factor_O.reshape(shape)).astype(np.float32)
            return folded, bias_O.astype(np.float32)
        scale_O = frozen.scale_O.detach().cpu().double().numpy() * factor_O
        packed = Packed(
            name,
            self._trained.quantizers[name],
            frozen.codes.cpu().contiguous().numpy(),
            scale_O.astype(np.float32),
            frozen.offset,
        )
        return packed, bias_O.astype(np.float32)

    def _fold(self, node: fx.Node, bias_O: Any) -> tuple[Any, Any]:
        """Return what a batch norm behind a layer multiplies its rows by, and the biases then."""
        behind = list(node.users)
        is_norm = len(behind) == 1 and behind[0].target is aten.batch_norm.default
        if not is_norm or behind[0].args[0] is not node:
            return np.ones(len(bias_O)), bias_O
        self._folded.add(behind[0])
        factor_O, shift_O = self._norm(behind[0])
        return factor_O, bias_O * factor_O + shift_O

    def _norm(self, node: fx.Node) -> tuple[Any, Any]:
        """Return a batch norm as (factor, shift), in float64."""
        _, weight, bias, mean, variance, training, _, epsilon, _ = _filled(node, (None,) * 9)
        if training or mean is None:
            raise ExportError(
                f"{_place(node)}: a batch norm without running statistics depends on the batch and "
                "cannot be exported. Train it with track_running_stats."
            )
        mean_C, variance_C = self._double(mean), self._double(variance)
        factor_C = 1 / np.sqrt(variance_C + epsilon)
        if weight is not None:
            factor_C = factor_C * self._double(weight)
        shift_C = -mean_C * factor_C
        return factor_C, shift_C if bias is None else shift_C + self._double(bias)

    def _double(self, node: fx.Node) -> Any:
        return self._tensors[self._names[node.name]].detach().cpu().double().numpy()

    def _quantized(self, node: fx.Node, image: fx.Node) -> int:
        """Return a layer's input, on its grid where it has one."""
        value: int = self._values[image]
        grid = self._trained.grids.get(_place(node))
        if grid is None:
            return value
        for made in self._nodes:  # a layer that is used twice
            if isinstance(made, Quantize) and made.inputs == (value,) and made.grid is grid:
                return made.output
        return self._add(image, Quantize, (value,), name=_place(node), grid=grid)

    def _other(self, node: fx.Node) -> Any:
        def tensor(argument: Any) -> Floats | None:
            """Return a parameter's or buffer's values; None for what depends on the image."""
            if isinstance(argument, fx.Node) and argument.name in self._names:
                return self._double(argument).astype(np.float32)  # type: ignore[no-any-return]
            return None

        operation = Operation(
            node,
            place=_place(node),
            batch=self._batch,
            value=lambda argument: self._values[argument],
            shape=lambda number: self._shapes[number],
            tensor=tensor,
            norm=lambda: self._norm(node),
            add=self._append,
        )
        lower_one = OPERATORS.get(node.target)
        if lower_one is None:
            raise operation.unsupported()
        return lower_one(operation)

    def _add(self, traced: fx.Node, kind: type[Node], inputs: tuple[int, ...], **more: Any) -> int:
        return self._append(kind, inputs, _shape(traced), **{"name": _place(traced), **more})

    def _append(
        self, node: type[Node], inputs: tuple[int, ...], shape: tuple[int, ...], /, **more: Any
    ) -> int:
        output = self._new_value(shape)
        self._nodes.append(node(inputs=inputs, output=output, **more))
        return output

    def _new_value(self, shape: tuple[int, ...]) -> int:
        self._shapes.append(shape)
        return len(self._shapes) - 1


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Return a traced value's shape without the batch."""
    return tuple(int(size) for size in node.meta["val"].shape[1:])


def _place(node: fx.Node) -> str:
    """Return the name of the module that a traced node comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    name: str = list(stack.values())[-1][0] if stack else ""
    return name


def _filled(node: fx.Node, defaults: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a call's arguments, the last ones by default."""
    return (*node.args, *defaults[len(node.args) :])


def _each(value: Any, num_dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * num_dims
    return tuple(value) * (num_dims if len(value) == 1 else 1)

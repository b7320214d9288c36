"""Runs a graph in torch: what every exported form is compared with, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from sqtune.deploy.graph import (
    IMAGE,
    Affine,
    Combine,
    Concat,
    Conv,
    Graph,
    LayerNorm,
    Linear,
    Mean,
    Node,
    Packed,
    Pad,
    Pointwise,
    Pool,
    Quantize,
    Reshape,
    Slice,
    Transpose,
    Weight,
)


def normalised(graph: Graph, pixels: Tensor) -> Tensor:
    """Return images (uint8, N x C x H x W) as the network takes them."""
    mean_C, scale_C = torch.from_numpy(graph.pixel_mean_C), torch.from_numpy(graph.pixel_scale_C)
    return (pixels.float() - mean_C[:, None, None]) * scale_C[:, None, None]


@torch.no_grad()
def run(graph: Graph, pixels: Tensor) -> Tensor:
    """Return the logits (N x classes) of images (uint8, N x C x H x W)."""
    result = None
    for number, value in values(graph, pixels):
        if number == graph.output:
            result = value
    assert result is not None
    return result


@torch.no_grad()
def values(graph: Graph, pixels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield every value with its number, in order; each lives as long as it is needed."""
    alive = {IMAGE: normalised(graph, pixels)}
    yield IMAGE, alive[IMAGE]
    last = {number: node for node in graph.nodes for number in node.inputs}
    for node in graph.nodes:
        result = compute(node, [alive[i] for i in node.inputs], graph.shapes[node.output])
        yield node.output, result
        alive[node.output] = result
        for number in set(node.inputs):
            if last[number] is node:
                del alive[number]


def compute(node: Node, x: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return what a node makes of its inputs; `shape` is the result's without the batch."""
    match node:
        case Conv():
            return _convolve(node, x[0])
        case Linear():
            return functional.linear(x[0], _tensor(node.weight), torch.from_numpy(node.bias_O))
        case Quantize(grid=grid):
            return (x[0] / grid.step).round().clamp(grid.low, grid.top) * grid.step
        case Pointwise():
            return _pointwise(node, x[0])
        case Combine(operation=operation):
            return x[0] + x[1] if operation == "add" else x[0] * x[1]
        case Affine():
            one = (-1, *[1] * (x[0].dim() - 2))
            scale, shift = torch.from_numpy(node.scale_C), torch.from_numpy(node.shift_C)
            return x[0] * scale.view(one) + shift.view(one)
        case Pool():
            return _pool(node, x[0])
        case Mean(keep=keep):
            return x[0].mean(dim=tuple(range(2, x[0].dim())), keepdim=keep)
        case LayerNorm():
            scale, shift = torch.from_numpy(node.scale), torch.from_numpy(node.shift)
            return functional.layer_norm(x[0], scale.shape, scale, shift, node.epsilon)
        case Concat(axis=axis):
            return torch.cat(x, dim=axis + 1)
        case Slice(axis=axis, start=start, stop=stop):
            return x[0].narrow(axis + 1, start, stop - start)
        case Pad(padding=padding):
            return functional.pad(x[0], _flat(padding))
        case Reshape():
            return x[0].reshape(-1, *shape)
        case Transpose(order=order):
            return x[0].permute(0, *(dim + 1 for dim in order))
    raise AssertionError(type(node).__name__)


def _tensor(weight: Weight) -> Tensor:
    return torch.from_numpy(weight.values() if isinstance(weight, Packed) else weight)


def _flat(padding: tuple[tuple[int, int], ...]) -> list[int]:
    """Return paddings in torch's order, the last dimension first."""
    return [size for pair in reversed(padding) for size in pair]


def _convolve(node: Conv, x: Tensor) -> Tensor:
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(node.stride) - 1]
    bias = torch.from_numpy(node.bias_O)
    x = functional.pad(x, _flat(node.padding))
    return convolve(x, _tensor(node.weight), bias, node.stride, 0, node.dilation, node.groups)


def _pool(node: Pool, x: Tensor) -> Tensor:
    if node.kind == "max":
        x = functional.pad(x, _flat(node.padding), value=-torch.inf)
        return functional.max_pool2d(x, node.kernel, node.stride)
    sums = functional.avg_pool2d(
        functional.pad(x, _flat(node.padding)), node.kernel, node.stride, divisor_override=1
    )
    ones = functional.pad(torch.ones(1, 1, *x.shape[2:]), _flat(node.padding))
    counts = functional.avg_pool2d(ones, node.kernel, node.stride, divisor_override=1)
    return sums / counts


def _pointwise(node: Pointwise, x: Tensor) -> Tensor:
    match node.function:
        case "relu":
            return x.relu()
        case "clip":
            return x.clamp(node.low, node.top)
        case "sigmoid":
            return x.sigmoid()
        case "hardsigmoid":
            return functional.hardsigmoid(x)
        case "hardswish":
            return functional.hardswish(x)
        case "silu":
            return functional.silu(x)
        case "gelu":
            return functional.gelu(x)
        case "tanh":
            return x.tanh()

"""Graphs with the weights of another quantizer, without lowering anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sqtune.deploy.graph import Graph, Layer, Packed, Weight
from sqtune.quant import Binary, Float, LearnedTernary, LearnedUniform, Quantizer, Ternary, Uniform

QUANTIZERS: list[Quantizer] = [Float(), Binary(), Ternary(), LearnedTernary()]
QUANTIZERS += [Uniform(bits=bits) for bits in range(2, 9)]
QUANTIZERS += [LearnedUniform(bits=bits) for bits in (2, 3, 4, 8)]


def with_quantizer(graph: Graph, quantizer: Quantizer, seed: int = 0) -> Graph:
    """Draw codes of a quantizer for every packed layer, about as large as its weights were."""
    random = np.random.default_rng(seed)
    nodes = [
        replace(node, weight=_drawn(node.weight, quantizer, random))
        if isinstance(node, Layer) and isinstance(node.weight, Packed)
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def drawn_codes(
    quantizer: Quantizer, shape: tuple[int, ...], random: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return random codes of a quantizer, the largest among them, and the offset."""
    if isinstance(quantizer, Binary):
        return random.choice(np.array([-1, 1], np.int8), shape), 0.0
    if isinstance(quantizer, Ternary | LearnedTernary):
        return random.integers(-1, 2, shape, np.int8), 0.0
    top = 2 ** (quantizer.bits - 1)
    if quantizer.bits == 2:
        return random.integers(-2, 2, shape, np.int8), 0.5
    codes = random.integers(1 - top, top, shape, np.int8)
    codes.flat[0], codes.flat[-1] = top - 1, 1 - top
    return codes, 0.0


def _drawn(weight: Packed, quantizer: Quantizer, random: np.random.Generator) -> Weight:
    shape = weight.codes.shape
    size = np.sqrt(np.mean(weight.values() ** 2))
    if isinstance(quantizer, Float):
        return random.normal(0, size, shape).astype(np.float32)
    codes, offset = drawn_codes(quantizer, shape, random)
    scale_O = size / np.sqrt(np.mean((codes + offset) ** 2)) * random.choice([-1, 1, 1], shape[0])
    return Packed(weight.source, quantizer, codes, scale_O.astype(np.float32), offset)

"""Footprint: what a network takes where it is deployed, known before training.

Bytes, by form:

`onnx`: the file (`sqtune.deploy.sizes.onnx_size`): packed codes, one float32 scale and one float32
bias a row (batch norm is folded into scales and biases), float weights where a layer stays float,
and what the file format adds for nodes and names, which makes a close bound: the file is never
larger.

`c`: raw arrays in flash, no file (`sqtune.deploy.c.source`): packed codes or float weights, scales
and biases as above (the scale of its inputs is in a row's scale), 22 bytes a convolution (its
shape), and one table of 243 x 5 bytes if some layer is ternary; other codes unpack by shifts. What
the compiler makes of the code comes on top.

Both: 4 bytes for each float parameter that belongs to no layer and that no layer takes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqtune.config.options import Target
from sqtune.config.trial import TrialConfig
from sqtune.deploy.sizes.memory import FLOAT_BITS, peak_bytes
from sqtune.deploy.sizes.onnx_size import onnx_bytes
from sqtune.deploy.sizes.structure import Layer, Structure, structure
from sqtune.quant import Float, LearnedTernary, Quantizer, Ternary, packed_bytes
from sqtune.quant.rules import assign_quantizers

Form = Literal["onnx", "c"]
C_CONVOLUTION = 22
C_TERNARY_TABLE = 243 * 5


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a network takes when it is deployed.

    Attributes:
        size_bytes: Bytes of the delivered form.
        weight_bits: Average bits of its weights, 32 where they stay float.
        ram_bytes: Of the block that holds all activations of one image
            (`sqtune.deploy.sizes.memory`), and in the form `c` of the buffer for the weights of one
            output channel, a byte each.
        macs: Multiply-adds for one image.
        bit_operations: Sum over the layers of multiply-adds x weight bits x input bits, 32 for
            float.
    """

    size_bytes: int
    weight_bits: float
    ram_bytes: int
    macs: int
    bit_operations: int


def footprint(
    config: TrialConfig,
    *,
    in_channels: int,
    num_classes: int,
    image_size: tuple[int, int],
    form: Form = "onnx",
) -> Footprint:
    """Return the footprint of a configuration. A network is looked at once in a process.

    Raises:
        NetworkError: The network does not suit the images.
        QuantizationError: A rule gives no layer its quantizer.

    >>> taken = footprint(TrialConfig(), in_channels=3, num_classes=10, image_size=(32, 32))
    >>> taken.size_bytes, taken.weight_bits, taken.ram_bytes, taken.macs
    (46160, 1.0, 131072, 41599616)
    """
    net = structure(config.network, in_channels, num_classes, image_size)
    names = [layer.name for layer in net.layers]
    assigned = assign_quantizers(names, config.quantizer, config.rules)
    quantizers = [assigned[name] for name in names]
    input_bits = _input_bits(config, quantizers)
    num_weights = sum(layer.num_weights for layer in net.layers)
    total_bits = bit_operations = 0
    for layer, quantizer, bits in zip(net.layers, quantizers, input_bits, strict=True):
        total_bits += layer.num_weights * quantizer.bits
        bit_operations += layer.macs * quantizer.bits * bits
    return Footprint(
        size_bytes=_size_bytes(net, quantizers, input_bits, form),
        weight_bits=total_bits / num_weights,
        ram_bytes=peak_bytes(net, input_bits) + (_row_bytes(net, quantizers) if form == "c" else 0),
        macs=sum(layer.macs for layer in net.layers) + net.other_macs,
        bit_operations=bit_operations + net.other_macs * FLOAT_BITS**2,
    )


def excess(footprint: Footprint, target: Target | None) -> dict[str, float]:
    """Return by how much each limit of a target is exceeded: (value - limit) / limit.

    At most 0 where it fits. Limits that the target does not set are left out.

    >>> excess(Footprint(3072, 1.0, 800, 10**6, 10**7), Target(max_flash=2048, max_ram=1000))
    {'max_flash': 0.5, 'max_ram': -0.2}
    """
    return {name: (value - limit) / limit for name, value, limit in _limited(footprint, target)}


def refusal(footprint: Footprint, target: Target | None) -> str | None:
    """Return a sentence that says what does not fit into a target; None where everything does.

    >>> refusal(Footprint(3072, 1.0, 800, 10**6, 10**7), Target(max_flash=2048, max_ram=1000))
    'It takes 3.0 KiB of flash (onnx), max_flash is 2.0 KiB.'
    """
    problems = []
    for name, value, limit in _limited(footprint, target):
        if value > limit:
            what = {"max_flash": f"of flash ({_form(target)})", "max_ram": "of RAM"}.get(name, "")
            show = _macs_text if name == "max_macs" else _kib_text
            problems.append(f"{show(value)} {what}".strip() + f", {name} is {show(limit)}")
    return f"It takes {'; '.join(problems)}." if problems else None


def _form(target: Target | None) -> Form:
    return "onnx" if target is None else target.form


def _limited(footprint: Footprint, target: Target | None) -> list[tuple[str, int, int]]:
    """Return (name, value, limit) for each limit that a target sets."""
    if target is None:
        return []
    values = {
        "max_flash": footprint.size_bytes,
        "max_ram": footprint.ram_bytes,
        "max_macs": footprint.macs,
    }
    limits = {name: getattr(target, name) for name in values}
    return [(name, values[name], limit) for name, limit in limits.items() if limit is not None]


def _kib_text(size_bytes: int) -> str:
    if size_bytes < 1024:
        return f"{size_bytes} B"
    return f"{size_bytes / 1024:,.1f} KiB"


def _macs_text(macs: int) -> str:
    return f"{macs / 1e6:,.2f}M multiply-adds"


def _input_bits(config: TrialConfig, quantizers: list[Quantizer]) -> tuple[int, ...]:
    """Return the bits of each layer's inputs; those of the first and the last layer are theirs."""
    activations = config.activations
    if activations is None:
        return (FLOAT_BITS,) * len(quantizers)
    ends = (0, len(quantizers) - 1)
    return tuple(
        FLOAT_BITS
        if isinstance(quantizer, Float)
        else (activations.ends_bits if index in ends else activations.bits)
        for index, quantizer in enumerate(quantizers)
    )


def _size_bytes(
    net: Structure, quantizers: list[Quantizer], input_bits: tuple[int, ...], form: Form
) -> int:
    return onnx_bytes(net, quantizers, input_bits) if form == "onnx" else _c_bytes(net, quantizers)


def _c_bytes(net: Structure, quantizers: list[Quantizer]) -> int:
    total = 4 * net.other_numbers
    for layer, quantizer in zip(net.layers, quantizers, strict=True):
        total += _layer_bytes(layer, quantizer) + (C_CONVOLUTION if layer.convolves else 0)
    has_ternary = any(isinstance(each, Ternary | LearnedTernary) for each in quantizers)
    return total + (C_TERNARY_TABLE if has_ternary else 0)


def _row_bytes(net: Structure, quantizers: list[Quantizer]) -> int:
    """Return the bytes of the longest row that a convolution unpacks."""
    rows = [
        layer.num_weights // layer.num_rows
        for layer, quantizer in zip(net.layers, quantizers, strict=True)
        if layer.convolves and not isinstance(quantizer, Float)
    ]
    return max(rows, default=0)


def _layer_bytes(layer: Layer, quantizer: Quantizer) -> int:
    scales = 0 if isinstance(quantizer, Float) else 4 * layer.num_rows
    return packed_bytes(layer.num_weights, quantizer) + scales + 4 * layer.num_rows

"""ResNet-8 on an emulated Cortex-M: instructions, flash and RAM of the C form, by quantizer.

    python benchmarks/c_target.py
    python benchmarks/c_target.py --no-floating-point

Needs gcc-arm-none-eabi and qemu-system-arm. The networks are not trained: instructions hardly
depend on the weights, flash and RAM not at all. Figures are beside those that were predicted from
the configuration alone.
"""

from __future__ import annotations

import argparse
import sys

import torch

from sqtune.config import TrialConfig
from sqtune.deploy.c.source import c_source
from sqtune.deploy.c.target import FLAGS, measure_on_cortex_m
from sqtune.deploy.graph import Graph, Grid
from sqtune.deploy.lower import Trained, lower
from sqtune.deploy.sizes.footprint import footprint
from sqtune.networks import ResNet, build
from sqtune.quant import (
    Activations,
    Binary,
    Exponential,
    Float,
    Quantizer,
    StochasticQuantization,
    Ternary,
    Uniform,
)

SHAPE, NUM_CLASSES, NUM_IMAGES = (3, 32, 32), 10, 2
CASES: list[tuple[str, Quantizer, int | None]] = [
    ("float", Float(), None),
    ("binary", Binary(), None),
    ("binary", Binary(), 8),
    ("ternary", Ternary(), 8),
    ("ternary", Ternary(), 4),
    ("4 bits", Uniform(bits=4), 8),
    ("4 bits", Uniform(bits=4), 4),
    ("4 bits", Uniform(bits=4), 2),
]


def graph(network: ResNet, quantizer: Quantizer, bits: int | None) -> Graph:
    torch.manual_seed(0)
    model = build(network, SHAPE[0], NUM_CLASSES, SHAPE[1:]).eval()
    activations = None if bits is None else Activations(bits)
    guest = StochasticQuantization(model, quantizer, Exponential(), activations=activations)
    with torch.no_grad(), guest.quantized():
        model(torch.randn(8, *SHAPE))  # fits the grids of the activations
    grids = {
        name: Grid(
            (int(layer["top"]) - int(layer["low"])).bit_length(),
            int(layer["low"]),
            int(layer["top"]),
            float(layer["learned"]),
        )
        for name, layer in guest.state_dict()["activations"].get("layers", {}).items()
    }
    classes = tuple(map(str, range(NUM_CLASSES)))
    normal = (0.5,) * SHAPE[0], (0.25,) * SHAPE[0]
    return lower(Trained(model, guest.codes(), guest.quantizers, grids, classes, SHAPE, *normal))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--flags", nargs="*", default=list(FLAGS), help="of the compiler")
    parser.add_argument("--no-floating-point", action="store_true", help="a Cortex-M3, not an M4")
    options = parser.parse_args()
    network = ResNet("resnet8", options.width)
    pixels = torch.randint(
        0, 256, (NUM_IMAGES, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ).numpy()
    print(f"{'weights':8} {'inputs':7} {'flash':>7} {'RAM':>7} {'code':>6} {'stack':>5} "
          f"{'instructions':>13} {'per multiply-add':>16}")  # fmt: skip
    for name, quantizer, bits in CASES:
        source = c_source(graph(network, quantizer, bits))
        fields = {} if bits is None else {"activation_bits": bits}
        config = TrialConfig.model_validate(
            {"network": network, "quantizer": quantizer, **fields}, strict=False
        )
        predicted = footprint(
            config, in_channels=3, num_classes=NUM_CLASSES, image_size=SHAPE[1:], form="c"
        )
        assert source.flash_bytes == predicted.size_bytes
        assert source.ram_bytes == predicted.ram_bytes
        figures = measure_on_cortex_m(
            source, pixels, tuple(options.flags), floating_point=not options.no_floating_point
        )
        if figures is None:
            sys.exit("gcc-arm-none-eabi and qemu-system-arm are needed: apt-get install them.")
        assert figures.ram_bytes == source.ram_bytes
        count = max(figures.instructions)
        inputs = "float" if bits is None else f"{bits} bits"
        print(f"{name:8} {inputs:7} {source.flash_bytes:7,} {source.ram_bytes:7,} "
              f"{figures.code_bytes:6,} {figures.stack_bytes:5} {count:13,} "
              f"{count / predicted.macs:16.2f}")  # fmt: skip
    print(figures.compiler)


if __name__ == "__main__":
    main()

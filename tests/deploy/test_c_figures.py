"""Flash and RAM of the C form are what was predicted from the configuration alone."""

from __future__ import annotations

import re
import subprocess

import pytest
from c_models import library, written
from other_weights import QUANTIZERS, with_quantizer
from small_networks import small_graph

from sqtune.config import TrialConfig
from sqtune.deploy.c.source import c_source
from sqtune.deploy.sizes.footprint import footprint
from sqtune.networks import AlexNetBn, ResNet, Torchvision, Vgg9
from sqtune.quant import Activations, Binary, Float, LayerRule, Ternary, Uniform

ACTIVATIONS = {"float": None} | {f"{bits} bits": Activations(bits) for bits in (8, 4, 2)}


def predicted(network, quantizer, shape, activations=None, **fields):
    if activations is not None:
        fields |= {
            "activation_bits": activations.bits,
            "activation_ends_bits": activations.ends_bits,
        }
    config = TrialConfig.model_validate(
        {"network": network, "quantizer": quantizer, **fields}, strict=False
    )
    given = {"in_channels": shape[0], "num_classes": 5, "image_size": shape[1:]}
    found = footprint(config, form="c", **given)
    return found.size_bytes, found.ram_bytes


def figures(source):
    return source.flash_bytes, source.ram_bytes


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ResNet("resnet8", 4), (3, 12, 12)),
        (ResNet("resnet8", 7), (1, 13, 11)),
        (ResNet("resnet20", 5), (3, 15, 16)),
        (Vgg9(width=3), (3, 17, 18)),
        (AlexNetBn(width=3), (3, 64, 70)),
    ],
    ids=str,
)
def test_the_search_predicted_them(network, shape, activations):
    low = ACTIVATIONS[activations]
    graph, _ = small_graph(Ternary(), network, shape=shape, activations=low)
    for quantizer in QUANTIZERS:
        if quantizer == Float():
            continue  # its layers' inputs are never quantized
        source = c_source(with_quantizer(graph, quantizer))
        assert figures(source) == predicted(network, quantizer, shape, low)


def test_they_are_predicted_for_float_networks_and_layers_that_rules_keep_float():
    network, shape, low = ResNet("resnet8", 4), (3, 12, 12), Activations(4, ends_bits=32)
    graph, _ = small_graph(Float(), network, shape=shape)
    assert figures(c_source(graph)) == predicted(network, Float(), shape)
    rules = (LayerRule("stem|group2", Float()), LayerRule("head", Uniform(bits=3)))
    graph, _ = small_graph(Binary(), network, shape=shape, activations=low, rules=rules)
    fields = {
        "keep_float": ["stem", "group2"],
        "overrides": [{"match": "head", "quantizer": Uniform(bits=3)}],
    }
    assert figures(c_source(graph)) == predicted(network, Binary(), shape, low, **fields)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5"])
def test_they_are_predicted_for_networks_of_others(name):
    network, shape, low = Torchvision(name), (3, 33, 33), Activations(4)
    graph, _ = small_graph(Ternary(), network, shape=shape, activations=low)
    assert figures(c_source(graph)) == predicted(network, Ternary(), shape, low)


def test_the_compiler_finds_as_much_as_the_header_says(tmp_path):
    graph, _ = small_graph(Ternary(), activations=Activations(4))
    source = c_source(graph)
    command = ["gcc", "-std=c99", "-O0", "-c", "-o", "model.o"]
    subprocess.run([*command, *written([source], tmp_path)], cwd=tmp_path, check=True)
    listed = subprocess.check_output(["nm", "-S", "model.o"], cwd=tmp_path, text=True)
    rows = re.findall(r"^\w+ (\w+) ([rb]) (\w+)$", listed, re.MULTILINE)
    constant = {name: int(size, 16) for size, kind, name in rows if kind == "r"}
    assert sum(constant.values()) == source.flash_bytes
    assert constant["c_ternary_digits"] == 243 * 5
    assert constant["c_stem_codes"] == -(-4 * 27 // 5)
    static = {name: int(size, 16) for size, kind, name in rows if kind == "b"}
    assert static == {"arena": source.arena_bytes, "unpacked": source.row_bytes}
    assert source.row_bytes == 16 * 9


def test_a_wrong_figure_is_no_program(tmp_path):
    graph, _ = small_graph(Binary())
    source = c_source(graph)
    wrong = re.sub(r"FLASH_BYTES \d+", "FLASH_BYTES 12345", source.header)
    assert wrong != source.header
    library([source], tmp_path)
    (tmp_path / "model.h").write_text(wrong)
    done = subprocess.run(
        ["gcc", "-c", "model.c"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "flash_as_declared" in done.stderr

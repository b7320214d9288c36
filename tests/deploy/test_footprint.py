"""Whole footprints: bit operations by hand, targets, and what a further configuration takes."""

from __future__ import annotations

import itertools
import time

import pytest

from sqtune.config import TrialConfig
from sqtune.config.options import Target
from sqtune.deploy.sizes.footprint import Footprint, excess, footprint, refusal
from sqtune.errors import NetworkError
from sqtune.networks import ResNet
from sqtune.quant import Float, Ternary

# resnet8 of width 2 on 1 x 8 x 8 images, 3 classes: multiply-adds, layer by layer
STEM, HEAD = 18 * 64, 24
INNER = (36 + 36) * 64 + (72 + 144 + 32) * 16 + (288 + 576 + 128) * 4


def taken(classes=3, size=8, form="onnx", **fields):
    config = TrialConfig.model_validate(
        {"network": ResNet("resnet8", 2), "quantizer": Ternary(), **fields}, strict=False
    )
    return footprint(config, in_channels=1, num_classes=classes, image_size=(size, size), form=form)


@pytest.mark.parametrize(
    ("fields", "by_hand"),
    [
        ({"quantizer": Float()}, (STEM + INNER + HEAD) * 32 * 32),
        ({"quantizer": Float(), "activation_bits": 8}, (STEM + INNER + HEAD) * 32 * 32),
        ({}, (STEM + INNER + HEAD) * 2 * 32),
        ({"activation_bits": 4}, (STEM + HEAD) * 2 * 8 + INNER * 2 * 4),
        (
            {"activation_bits": 4, "activation_ends_bits": 32},
            (STEM + HEAD) * 2 * 32 + INNER * 2 * 4,
        ),
        (
            {"activation_bits": 8, "keep_float": ["head"]},
            (STEM + INNER) * 2 * 8 + HEAD * 32 * 32,
        ),
    ],
    ids=str,
)
def test_bit_operations_by_hand(fields, by_hand):
    footprint = taken(**fields)
    assert footprint.bit_operations == by_hand
    assert footprint.macs == STEM + INNER + HEAD


def test_ram_of_a_resnet8_by_hand():
    # group 1, of 2 x 8 x 8: its input, which stays for the shortcut, and between its convolutions;
    # with codes of the input beside it where those take codes
    assert taken().ram_bytes == 4 * 2 * 128
    assert taken(activation_bits=8).ram_bytes == 4 * 128 + 128 + 128
    assert taken(activation_bits=4).ram_bytes == 4 * 128 + 64 + 64
    assert taken(size=16).ram_bytes == 4 * taken().ram_bytes


FOOTPRINT = Footprint(
    size_bytes=66_560, weight_bits=1.0, ram_bytes=32_768, macs=25_000_000, bit_operations=10**9
)


def test_excess_is_a_share_of_each_limit_that_is_set():
    target = Target(max_flash=65_536, max_ram=65_536, max_macs=20_000_000)
    assert excess(FOOTPRINT, target) == {
        "max_flash": pytest.approx(1024 / 65_536),
        "max_ram": pytest.approx(-0.5),
        "max_macs": pytest.approx(0.25),
    }
    assert list(excess(FOOTPRINT, Target(max_ram="32KiB")).items()) == [("max_ram", 0.0)]
    assert excess(FOOTPRINT, Target()) == excess(FOOTPRINT, None) == {}


def test_a_refusal_names_every_limit_that_is_exceeded_and_no_other():
    target = Target(form="c", max_flash="64KiB", max_ram="64KiB", max_macs="20M")
    assert refusal(FOOTPRINT, target) == (
        "It takes 65.0 KiB of flash (c), max_flash is 64.0 KiB; "
        "25.00M multiply-adds, max_macs is 20.00M multiply-adds."
    )
    assert refusal(FOOTPRINT, Target(max_flash="65KiB", max_ram="32KiB")) is None
    assert refusal(FOOTPRINT, Target()) is refusal(FOOTPRINT, None) is None


def test_flash_is_that_of_the_form_that_is_asked_for():
    onnx, c = taken(), taken(form="c")
    nodes = 1338 + 960 + 360  # tests/deploy/test_footprint_size.py says of what
    one_tensor = 276 - 271  # in which the codes of all layers stand without gaps
    assert onnx.size_bytes - c.size_bytes == nodes - one_tensor - 9 * 22 - 1215
    assert onnx.macs == c.macs
    assert c.ram_bytes - onnx.ram_bytes == 72  # group 3 has rows of 8 x 3 x 3 weights
    floats = {"quantizer": Float()}
    assert taken(form="c", **floats).ram_bytes == taken(**floats).ram_bytes


def test_images_that_are_too_small_are_an_error():
    with pytest.raises(NetworkError, match="needs at least 8x8"):
        taken(size=7)


def test_a_further_configuration_of_a_known_network_is_not_looked_at_anew():
    network = ResNet("resnet56", 16)
    given = {"in_channels": 3, "num_classes": 10, "image_size": (32, 32)}
    footprint(TrialConfig(network=network), **given)
    choices = itertools.product([2, 4, 8], [2, 4, 8], [(), ("stem",), ("stem|head", "group1")])
    configs = [
        TrialConfig(
            network=network, activation_bits=bits, activation_ends_bits=ends, keep_float=kept
        )
        for bits, ends, kept in choices
        if ends >= bits
    ]
    seconds = []
    for config in configs:
        started = time.perf_counter()
        footprint(config, **given)
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[len(seconds) // 2] < 0.02  # 0.3 ms on an idle core; a look takes 120

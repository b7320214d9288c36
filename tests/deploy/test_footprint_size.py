"""Predicted sizes of resnet8, added up by hand, and what must hold of any network."""

from __future__ import annotations

import pytest
import torch

from sqtune.config import TrialConfig
from sqtune.deploy.footprint import footprint
from sqtune.errors import QuantizationError
from sqtune.networks import ResNet
from sqtune.quant import Binary, Float, LearnedTernary, LearnedUniform, Ternary, Uniform

# resnet8 of width 2 on one channel, 3 classes; filters x weights in a filter:
#   stem 2x9, group 1 2x18 2x18, group 2 4x18 4x36 and 4x8, group 3 8x36 8x72 and 8x16, head 3x8
# weights 18 36 36 72 144 32 288 576 128 24: together 1354; filters: 45; layers: 10
#
# bytes of codes, layer by layer:
#   1 bit      3 +  5 +  5 +  9 + 18 +  4 +  36 +  72 + 16 +  3 = 171
#   ternary    4 +  8 +  8 + 15 + 29 +  7 +  58 + 116 + 26 +  5 = 276
#   2 bits     5 +  9 +  9 + 18 + 36 +  8 +  72 + 144 + 32 +  6 = 339
#   3 bits     9 + 15 + 15 + 27 + 54 + 12 + 108 + 216 + 48 +  9 = 513
#   4 bits     9 + 18 + 18 + 36 + 72 + 16 + 144 + 288 + 64 + 12 = 677
#   8 bits    18 + 36 + 36 + 72 + 144 + 32 + 288 + 576 + 128 + 24 = 1354
# beside them 45 biases of 4 bytes, as many scales, 350 bytes a layer (450 with bit planes), and a
# table
BY_HAND = {
    Float(): 4 * 1354 + 180 + 3500,
    Binary(): 171 + 360 + 3500 + 2048,
    Ternary(): 276 + 360 + 3500 + 1215,
    Ternary("row"): 276 + 360 + 3500 + 1215,
    Uniform(bits=2): 339 + 360 + 3500 + 1024,
    Uniform(bits=3): 513 + 360 + 4500 + 2048,
    Uniform(bits=4): 677 + 360 + 3500 + 512,
    Uniform(bits=5): 855 + 360 + 4500 + 2048,
    Uniform(bits=6): 1026 + 360 + 4500 + 2048,
    Uniform(bits=7): 1197 + 360 + 4500 + 2048,
    Uniform(bits=8): 1354 + 360 + 3500,
    LearnedTernary(): 276 + 360 + 3500 + 1215,
    LearnedUniform(bits=2): 339 + 360 + 3500 + 1024,
    LearnedUniform(bits=3): 513 + 360 + 4500 + 2048,
    LearnedUniform(bits=4): 677 + 360 + 3500 + 512,
    LearnedUniform(bits=8): 1354 + 360 + 3500,
}


def sizes(network, quantizer, channels=3, classes=10, form="onnx", **fields):
    config = TrialConfig.model_validate(
        {"network": network, "quantizer": quantizer, **fields}, strict=False
    )
    return footprint(
        config, in_channels=channels, num_classes=classes, image_size=(32, 32), form=form
    )


def size_bytes(network, quantizer, channels=3, classes=10, **fields):
    return sizes(network, quantizer, channels, classes, **fields).size_bytes


@pytest.mark.parametrize("quantizer", BY_HAND, ids=str)
def test_a_small_resnet8_by_hand(quantizer):
    size = sizes(ResNet("resnet8", 2), quantizer, 1, 3)
    assert size.size_bytes == BY_HAND[quantizer]
    assert size.weight_bits == quantizer.bits


# the same codes, scales and biases; 22 bytes for each of 9 convolutions; only the ternary table
IN_C = {
    Float(): 4 * 1354 + 180 + 198,
    Binary(): 171 + 360 + 198,
    Ternary(): 276 + 360 + 198 + 1215,
    LearnedTernary(): 276 + 360 + 198 + 1215,
    Uniform(bits=2): 339 + 360 + 198,
    Uniform(bits=3): 513 + 360 + 198,
    LearnedUniform(bits=4): 677 + 360 + 198,
    Uniform(bits=8): 1354 + 360 + 198,
}


@pytest.mark.parametrize("quantizer", IN_C, ids=str)
def test_the_same_resnet8_as_c_arrays_by_hand(quantizer):
    network = ResNet("resnet8", 2)
    assert sizes(network, quantizer, 1, 3, form="c").size_bytes == IN_C[quantizer]
    # inputs of 8 bits: their scale is in those of the rows
    low = sizes(network, quantizer, 1, 3, form="c", activation_bits=8)
    assert low.size_bytes == IN_C[quantizer]


def test_a_ternary_table_counts_once_in_c():
    mixed = sizes(
        ResNet("resnet8", 2),
        Binary(),
        1,
        3,
        form="c",
        overrides=[{"match": "stem|head", "quantizer": Ternary()}],
    )
    assert mixed.size_bytes == IN_C[Binary()] + (4 - 3) + (5 - 3) + 1215


def test_a_resnet8_of_the_usual_width_by_hand():
    # weights on 3 channels, 10 classes: 432 + 2 * 2304 + 4608 + 9216 + 2048
    #   + 18432 + 36864 + 8192 + 640 = 85040, all of them multiples of 8; 346 filters; 10 layers
    assert size_bytes(ResNet("resnet8", 16), Binary()) == 10630 + 8 * 346 + 3500 + 2048
    assert size_bytes(ResNet("resnet8", 16), Float()) == 340160 + 4 * 346 + 3500


STEM, HEAD = 18, 24  # weights; of resnet8 of width 2, filters 2 and 3


def test_layers_with_quantizers_of_their_own_by_hand():
    size = sizes(
        ResNet("resnet8", 2),
        Binary(),
        1,
        3,
        keep_float=["head"],
        overrides=[{"match": "stem", "quantizer": Uniform(bits=4)}],
    )
    # the stem at 4 bits, the head in float (without scales), the others as all of them above
    codes = 9 + (171 - 3 - 3) + 4 * HEAD
    scales = 4 * (45 - 3)
    assert size.size_bytes == codes + scales + 4 * 45 + 3500 + 2048 + 512
    bits = 4 * STEM + 32 * HEAD + (1354 - STEM - HEAD)
    assert size.weight_bits == pytest.approx(bits / 1354)


def test_a_table_that_several_layers_need_counts_once():
    network, rule = (
        ResNet("resnet8", 2),
        {"match": "stem|head", "quantizer": LearnedUniform(bits=3)},
    )
    # bit planes are unpacked with the table of binary codes
    mixed = size_bytes(network, Binary(), 1, 3, overrides=[rule])
    assert mixed == BY_HAND[Binary()] + (9 - 3) + (9 - 3) + 2 * 100


def test_a_network_that_rules_keep_float_whole_is_a_float_one():
    network = ResNet("resnet8", 2)
    kept = sizes(network, Ternary(), 1, 3, keep_float=[".*"])
    assert kept == sizes(network, Float(), 1, 3)
    assert kept.weight_bits == 32


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_low_bit_activations_add_their_bound_where_weights_are_quantized(bits):
    network = ResNet("resnet8", 2)
    low = {"activation_bits": bits}
    assert size_bytes(network, Binary(), 1, 3, **low) == BY_HAND[Binary()] + 300 * 10
    kept = {"keep_float": ["stem", "group1"]}
    plain = size_bytes(network, Binary(), 1, 3, **kept)
    assert size_bytes(network, Binary(), 1, 3, **kept, **low) == plain + 300 * 7
    ends = {"activation_ends_bits": 32}  # the first and the last layer's stay float
    assert size_bytes(network, Binary(), 1, 3, **low, **ends) == BY_HAND[Binary()] + 300 * 8
    assert size_bytes(network, Float(), 1, 3, **low) == BY_HAND[Float()]


def test_a_rule_that_matches_nothing_is_an_error():
    with pytest.raises(QuantizationError, match="'steam' matches no layer"):
        sizes(ResNet("resnet8", 2), Binary(), keep_float=["steam"])


def test_more_bits_more_width_and_more_layers_are_larger():
    def size(quantizer, name="resnet20", width=16):
        return size_bytes(ResNet(name, width), quantizer)

    by_bits = [Binary(), Ternary(), *(Uniform(bits=bits) for bits in range(2, 9)), Float()]
    sizes = [size(quantizer) for quantizer in by_bits]
    assert sizes == sorted(sizes)
    for quantizer in by_bits:
        assert size(quantizer, width=8) < size(quantizer, width=9) < size(quantizer, width=16)
        assert size(quantizer, "resnet8") < size(quantizer) < size(quantizer, "resnet56")


def test_a_prediction_draws_no_random_number():
    state = torch.get_rng_state()
    sizes(ResNet("resnet8", 2), Binary(), 1, 3)
    assert torch.equal(torch.get_rng_state(), state)

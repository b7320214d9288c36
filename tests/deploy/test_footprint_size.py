"""Predicted sizes of resnet8, added up by hand, and what must hold of any network."""

from __future__ import annotations

import pytest
import torch

from sqtune.config import TrialConfig
from sqtune.deploy.sizes.footprint import footprint
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
# The ONNX file has the codes of all layers of one kind in one tensor: 1354 codes in 170, 271, 339,
# 3 x 170, 677, 5 x 170, 6 x 170, 7 x 170 and 1354 bytes. Beside them 45 biases of 4 bytes, as many
# scales, and nodes. What is always there: 212, 62 a layer, 22 for each of 7 paddings and 4 strides,
# 7 relu of 20, 3 sums of 20 and their second input of 4, the average over the image 52:
NODES = 212 + 10 * 62 + 22 * (7 + 4) + 7 * 20 + 3 * 24 + 52
# to unpack: 78 a layer, 20 for each of 9 shapes, 360 for a table, which 8 bits have not (50);
# 90 more for bit planes
UNPACK = 10 * 78 + 9 * 20
BY_HAND = {
    Float(): 4 * 1354 + 180 + NODES,
    Binary(): 170 + 360 + NODES + UNPACK + 360,
    Ternary(): 271 + 360 + NODES + UNPACK + 360,
    Ternary("row"): 271 + 360 + NODES + UNPACK + 360,
    Uniform(bits=2): 339 + 360 + NODES + UNPACK + 360,
    Uniform(bits=3): 510 + 360 + NODES + UNPACK + 450,
    Uniform(bits=4): 677 + 360 + NODES + UNPACK + 360,
    Uniform(bits=5): 850 + 360 + NODES + UNPACK + 450,
    Uniform(bits=6): 1020 + 360 + NODES + UNPACK + 450,
    Uniform(bits=7): 1190 + 360 + NODES + UNPACK + 450,
    Uniform(bits=8): 1354 + 360 + NODES + UNPACK + 50,
    LearnedTernary(): 271 + 360 + NODES + UNPACK + 360,
    LearnedUniform(bits=2): 339 + 360 + NODES + UNPACK + 360,
    LearnedUniform(bits=3): 510 + 360 + NODES + UNPACK + 450,
    LearnedUniform(bits=4): 677 + 360 + NODES + UNPACK + 360,
    LearnedUniform(bits=8): 1354 + 360 + NODES + UNPACK + 50,
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
    size = 10630 + 8 * 346 + NODES + UNPACK + 360
    assert size_bytes(ResNet("resnet8", 16), Binary()) == size
    assert size_bytes(ResNet("resnet8", 16), Float()) == 340160 + 4 * 346 + NODES


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
    codes = 9 + (1354 - STEM - HEAD) // 8 + 4 * HEAD
    scales = 4 * (45 - 3)
    unpack = 9 * 78 + 8 * 20 + 2 * 360
    assert size.size_bytes == codes + scales + 4 * 45 + NODES + unpack
    bits = 4 * STEM + 32 * HEAD + (1354 - STEM - HEAD)
    assert size.weight_bits == pytest.approx(bits / 1354)


def test_layers_of_one_kind_share_a_tensor_and_its_table():
    rule = {"match": "stem|head", "quantizer": LearnedUniform(bits=3)}
    mixed = size_bytes(ResNet("resnet8", 2), Binary(), 1, 3, overrides=[rule])
    # of 3 bits 18 + 24 codes; the others, 1312, are binary
    assert mixed == 164 + 3 * 6 + 360 + NODES + UNPACK + 360 + 450


def test_a_network_that_rules_keep_float_whole_is_a_float_one():
    network = ResNet("resnet8", 2)
    kept = sizes(network, Ternary(), 1, 3, keep_float=[".*"])
    assert kept == sizes(network, Float(), 1, 3)
    assert kept.weight_bits == 32


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_low_bit_activations_add_their_nodes_where_weights_are_quantized(bits):
    # 93 a layer to round its inputs with float operations: a step of 14 bytes, and Div 19,
    # Round 17, Clip 24, Mul 19. The ends of the grids, numbers of 14 bytes, are shared: 3 for each
    # number of bits (the first and the last layer have 8), and 0
    network = ResNet("resnet8", 2)
    low, ends = {"activation_bits": bits}, 42 + (42 if bits < 8 else 0) + 14
    for quantizer in (Binary(), Uniform(bits=8)):  # weights stay as they are
        expected = BY_HAND[quantizer] + 10 * 93 + ends
        assert size_bytes(network, quantizer, 1, 3, **low) == expected
    kept = {"keep_float": ["stem", "group1"]}
    plain = size_bytes(network, Binary(), 1, 3, **kept)
    assert size_bytes(network, Binary(), 1, 3, **kept, **low) == plain + 7 * 93 + ends
    high = {"activation_ends_bits": 32}  # the first and the last layer's stay float
    inner = BY_HAND[Binary()] + 8 * 93 + 42 + 14
    assert size_bytes(network, Binary(), 1, 3, **low, **high) == inner
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

"""Predicted sizes of resnet8, added up by hand, and what must hold of any network."""

from __future__ import annotations

import pytest
import torch

from sqtune.deploy.size import predicted_size_bytes
from sqtune.networks import ResNet
from sqtune.quant import Binary, Float, Ternary, Uniform

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
}


@pytest.mark.parametrize("quantizer", BY_HAND, ids=str)
def test_a_small_resnet8_by_hand(quantizer):
    size = predicted_size_bytes(ResNet("resnet8", 2), quantizer, in_channels=1, num_classes=3)
    assert size == BY_HAND[quantizer]


def test_a_resnet8_of_the_usual_width_by_hand():
    # weights on 3 channels, 10 classes: 432 + 2 * 2304 + 4608 + 9216 + 2048
    #   + 18432 + 36864 + 8192 + 640 = 85040, all of them multiples of 8; 346 filters; 10 layers
    size = predicted_size_bytes(ResNet("resnet8", 16), Binary(), in_channels=3, num_classes=10)
    assert size == 10630 + 8 * 346 + 3500 + 2048
    size = predicted_size_bytes(ResNet("resnet8", 16), Float(), in_channels=3, num_classes=10)
    assert size == 340160 + 4 * 346 + 3500


def test_more_bits_more_width_and_more_layers_are_larger():
    def size(quantizer, name="resnet20", width=16):
        return predicted_size_bytes(ResNet(name, width), quantizer, in_channels=3, num_classes=10)

    by_bits = [Binary(), Ternary(), *(Uniform(bits=bits) for bits in range(2, 9)), Float()]
    sizes = [size(quantizer) for quantizer in by_bits]
    assert sizes == sorted(sizes)
    for quantizer in by_bits:
        assert size(quantizer, width=8) < size(quantizer, width=9) < size(quantizer, width=16)
        assert size(quantizer, "resnet8") < size(quantizer) < size(quantizer, "resnet56")


def test_a_prediction_draws_no_random_number():
    state = torch.get_rng_state()
    predicted_size_bytes(ResNet("resnet8", 2), Binary(), in_channels=1, num_classes=3)
    assert torch.equal(torch.get_rng_state(), state)

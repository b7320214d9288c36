"""Peak memory of small networks, worked out by hand, step by step."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from sqtune.deploy.sizes.memory import peak_bytes, planned
from sqtune.deploy.sizes.structure import trace


def conv(channels, out, **options):
    return nn.Conv2d(channels, out, 3, padding=1, bias=False, **options)


def traced(model, *shape):
    return trace(model.eval(), torch.zeros(1, *shape))


class Residual(nn.Module):
    """A stem, one block around which a shortcut leads, and a head; of 1 x 4 x 4 images."""

    def __init__(self, *, inplace=False):
        super().__init__()
        self.inplace = inplace
        self.stem, self.conv1, self.conv2 = conv(1, 2), conv(2, 2), conv(2, 2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(2) for _ in range(3))
        self.head = nn.Linear(2, 3)

    def forward(self, image):
        x = functional.relu(self.norms[0](self.stem(image)), inplace=self.inplace)
        y = functional.relu(self.norms[1](self.conv1(x)), inplace=self.inplace)
        y = self.norms[2](self.conv2(y))
        if self.inplace:
            y += x
        else:
            y = x + y
        y = functional.relu(y, inplace=self.inplace)
        return self.head(y.mean(dim=(2, 3)))


# 32 elements in x (behind the stem), a (in the block) and the sum, which conv2 puts where x was.
#             image + x   x, its codes, a   x + a     x + mean    mean + logits
@pytest.mark.parametrize(
    ("input_bits", "by_hand"),
    [
        # float: 64 + 128, 256, 256, 136, 20
        ((32, 32, 32, 32), 256),
        # x is there as it is, for the sum, and while conv1 lasts as codes of 8 bits: 128 + 32
        ((8, 8, 8, 8), 128 + 32 + 32),
        ((8, 4, 4, 8), 128 + 16 + 16),
        ((8, 2, 2, 8), 16 + 128),
        ((8, 8, 32, 8), 128 + 32 + 128),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_residual_network_by_hand(input_bits, by_hand, inplace):
    net = traced(Residual(inplace=inplace), 1, 4, 4)
    assert [layer.name for layer in net.layers] == ["stem", "conv1", "conv2", "head"]
    assert peak_bytes(net, input_bits) == by_hand


def test_an_image_is_there_as_its_one_reader_takes_it():
    # an image that is larger than all that follows is the peak
    net = traced(nn.Sequential(nn.Conv2d(3, 1, 4, 4), nn.Flatten(), nn.Linear(4, 2)), 3, 8, 8)
    assert peak_bytes(net, (8, 8)) == 192 + 4
    assert peak_bytes(net, (2, 8)) == 192 // 4 + 4
    assert peak_bytes(net, (32, 32)) == 4 * (192 + 4)


def test_steps_behind_a_layer_take_no_memory_and_a_chain_holds_two_values():
    model = nn.Sequential(conv(1, 4), nn.BatchNorm2d(4), nn.Hardswish(), conv(4, 2), nn.Sigmoid())
    net = traced(model, 1, 4, 4)
    steps, _ = planned(net, (8, 8))
    assert [step.host.kind for step in steps] == ["image", "layer", "layer"]
    assert [len(step.extras) for step in steps] == [1, 3, 1]
    assert peak_bytes(net, (32, 32)) == 4 * (64 + 32)
    assert peak_bytes(net, (8, 8)) == 64 + 4 * 32


def test_sizes_are_whole_floats():
    net = traced(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, 1)), 1, 3, 3)
    # 9 bytes of image take 12, 3 of what follows 4
    assert peak_bytes(net, (8, 8)) == 12 + 4
    assert peak_bytes(net, (4, 8)) == 8 + 4


def test_max_pooling_and_concatenation_pass_low_bits_on_and_means_do_not():
    def pooled(pool):
        return nn.Sequential(conv(1, 4), nn.ReLU(), pool, conv(4, 1))

    # 64 elements before, 16 behind
    net = traced(pooled(nn.MaxPool2d(2)), 1, 4, 4)
    assert peak_bytes(net, (8, 8)) == 64 + 16
    net = traced(pooled(nn.AvgPool2d(2)), 1, 4, 4)
    assert peak_bytes(net, (8, 8)) == 4 * 64 + 16

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = conv(1, 3), conv(4, 1)

        def forward(self, image):
            return self.last(torch.cat([image, self.first(image)], dim=1))

    # image and 48 elements, joined to 64; then those and the result of 16
    net = traced(Dense(), 1, 4, 4)
    assert peak_bytes(net, (32, 32)) == 4 * (16 + 48 + 64)
    # codes of the image for both layers; those of the 48 elements; those of all
    assert peak_bytes(net, (8, 8)) == 16 + 48 + 64


def test_what_two_layers_read_on_two_grids_is_rounded_for_both_at_once():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.left, self.right = conv(1, 4), conv(4, 1), conv(4, 2)

        def forward(self, image):
            x = functional.relu(self.first(image))
            return self.left(x).flatten(1), self.right(x).flatten(1)

    net = traced(Fork(), 1, 4, 4)
    # the value as it is, 64 elements, and the codes of one grid; those of the other replace it
    assert peak_bytes(net, (8, 8, 8)) == 4 * 64 + 64
    assert peak_bytes(net, (8, 4, 4)) == 4 * 64 + 32
    # the first of them takes it as it is: value and result, then codes where the value was
    assert peak_bytes(net, (8, 32, 8)) == 4 * (64 + 16)


def test_views_share_the_memory_of_what_they_look_at():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.left, self.right = conv(1, 4), conv(2, 1), conv(2, 1)

        def forward(self, image):
            left, right = self.wide(image).chunk(2, dim=1)
            return self.left(left).flatten(1), self.right(right).flatten(1)

    # 64 elements stay until both halves are read; the results, 16 each, are returned
    assert peak_bytes(traced(Halves(), 1, 4, 4), (32, 32, 32)) == 4 * (64 + 16 + 16)


def test_a_value_with_several_readers_lasts_until_the_last_one():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.left, self.right = conv(1, 4), conv(4, 4), conv(4, 4)

        def forward(self, image):
            x = self.first(image)
            return self.left(functional.relu(x)) + self.right(x)

    # relu(x) is another value beside x: x, relu(x), left; then x, left, right
    assert peak_bytes(traced(Branches(), 1, 4, 4), (32, 32, 32)) == 4 * (64 + 64 + 64)


def test_what_does_not_depend_on_the_image_takes_no_memory():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(4, 1, 1))
            self.first, self.last = conv(1, 4), conv(4, 1)

        def forward(self, image):
            offset = functional.relu(self.table.expand(4, 4, 4).contiguous())
            return self.last(self.first(image) + offset)

    net = traced(Offset(), 1, 4, 4)
    assert len(planned(net, (32, 32))[0]) == 3
    assert peak_bytes(net, (32, 32)) == 4 * (64 + 16)
    assert net.other_numbers == 4


def test_padding_by_nothing_is_no_copy_and_real_padding_is():
    def net(*padding):
        return traced(nn.Sequential(conv(1, 2), nn.ZeroPad2d(padding), conv(2, 1)), 1, 4, 4)

    assert peak_bytes(net(0, 0, 0, 0), (32, 32)) == 4 * (32 + 16)
    assert peak_bytes(net(0, 1, 0, 1), (32, 32)) == 4 * (32 + 50)
    assert peak_bytes(net(0, 1, 0, 1), (8, 8)) == 52 + 4 * 25  # 50 bytes of codes, in whole floats


def test_the_peak_is_what_torch_itself_holds_where_nothing_is_in_place():
    """A chain of convolutions: the peak is that of the two largest neighbours."""
    channels = [3, 8, 2, 16, 16, 1]
    pairs = list(itertools.pairwise(channels))
    net = traced(nn.Sequential(*(conv(*pair) for pair in pairs)), 3, 6, 6)
    assert peak_bytes(net, (32,) * 5) == max(4 * 36 * sum(pair) for pair in pairs)

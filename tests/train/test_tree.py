"""Nested data with tensors: what goes in comes out, bit for bit; nothing else does."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sqtune.train.tree import from_bytes, to_bytes

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.uint8, torch.bool]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    PLAIN,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inside, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(tree=TREES)
def test_plain_data_comes_back(tree):
    back = from_bytes(to_bytes(tree))
    assert back == tree
    assert repr(back) == repr(tree)  # tuples, -0.0 and 1.0 as they were


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4, 5)], ids=str)
def test_tensors_come_back_bit_for_bit_beside_mappings_that_look_like_them(dtype, shape):
    tensor = torch.testing.make_tensor(shape, dtype=dtype, device="cpu")
    tree = {"tensor": tensor, "map": ({"tensor": "0"}, [tensor.clone()]), "tuple": ()}
    back = from_bytes(to_bytes(tree))
    assert back["map"][0] == {"tensor": "0"}
    assert back["tuple"] == ()
    for found in (back["tensor"], back["map"][1][0]):
        assert isinstance(found, Tensor)
        assert (found.dtype, found.shape) == (dtype, tensor.shape)
        assert torch.equal(found, tensor)


def test_any_memory_will_do_and_the_same_tensor_may_stand_twice():
    whole = torch.arange(24.0).reshape(1, 2, 3, 4)
    strided = whole.to(memory_format=torch.channels_last)
    tree = [strided, whole[0, :, 1], whole, whole, torch.nn.Parameter(whole)]
    for found, given_ in zip(from_bytes(to_bytes(tree)), tree, strict=True):
        assert torch.equal(found, given_)


def test_floats_that_are_not_finite_come_back():
    back = from_bytes(to_bytes([math.inf, -math.inf, math.nan]))
    assert back[:2] == [math.inf, -math.inf]
    assert math.isnan(back[2])


@pytest.mark.parametrize(
    "content",
    [{1: 2}, {"a": {3.0}}, [object()], b"bytes"],
    ids=["number as key", "set", "object", "bytes"],
)
def test_other_things_are_refused(content):
    with pytest.raises(TypeError):
        to_bytes(content)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        to_bytes([torch.ones(3)])[:-1],
        to_bytes({"a": 1})[:9],
        to_bytes(1).replace(b"1", b"x", 1),
        to_bytes({"a": 1}).replace(b'"map"', b'"mop"'),
        to_bytes([torch.ones(3)]).replace(b'cpu",0', b'cpu",9'),
        to_bytes([torch.ones(3)]).replace(b'cpu",0,[3]', b'cpu",0,[4]'),
        pickle.dumps({"a": 1}),
    ],
    ids=range(9),
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="no nested data"):
        from_bytes(data)

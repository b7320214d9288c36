"""Dotted paths into mappings and lists."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqtune.config.paths import NoSuchEntryError, get, keys_of, put
from sqtune.config.trial import flatten

NAMES = st.sampled_from(["a", "b", "name", "bits"])
TREES = st.recursive(
    st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: (
        st.dictionaries(NAMES, inner, max_size=3)
        | st.lists(st.dictionaries(NAMES, inner, max_size=2), max_size=2)
    ),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(NAMES, TREES, max_size=3)


@given(MAPPINGS)
def test_every_flat_path_leads_to_its_leaf(tree):
    for path, leaf in flatten(tree).items():
        assert get(tree, keys_of(path)) == leaf


@given(MAPPINGS, MAPPINGS)
def test_different_trees_are_flat_differently(one, other):
    assert (flatten(one) == flatten(other)) == (one == other)


@given(MAPPINGS, st.integers(4, 9))
def test_what_is_put_in_is_there_and_nothing_else_changes(tree, value):
    flat = flatten(tree)
    for path in (path for path, leaf in flat.items() if leaf != {}):
        changed = copy.deepcopy(tree)
        put(changed, keys_of(path), value)
        assert get(changed, keys_of(path)) == value
        if not path.endswith("name"):
            assert flatten(changed) == {**flat, path: value}


def test_what_is_put_in_is_a_copy():
    value, tree = {"bits": 2}, {}
    put(tree, ("quantizer",), value)
    put(tree, ("quantizer", "bits"), 4)
    assert (value, tree) == ({"bits": 2}, {"quantizer": {"bits": 4}})


def test_another_name_starts_its_mapping_anew_and_the_same_one_does_not():
    def after(name):
        tree = {"overrides": [{"match": "a", "quantizer": {"name": "uniform", "bits": 2}}]}
        put(tree, keys_of("overrides.0.quantizer.name"), name)
        return tree["overrides"][0]

    assert after("uniform") == {"match": "a", "quantizer": {"name": "uniform", "bits": 2}}
    assert after("binary") == {"match": "a", "quantizer": {"name": "binary"}}


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("rules.2", ["rules has no entry 2", "it has 2, counted from 0"]),
        ("rules.2.bits", ["rules has no entry 2"]),
        ("rules.0.inner.1.bits", ["rules.0.inner has no entry 1", "it has 1"]),
        ("rules.bits", ["rules is a list", "rules.0.bits"]),
        ("none.0", ["none has no entry 0", "empty"]),
        ("number.0.bits", ["number has no entry 0", "empty"]),
    ],
)
def test_a_path_past_the_end_of_a_list_is_refused(path, parts):
    tree = {"rules": [{"inner": [{}]}, {}], "number": 3}
    with pytest.raises(NoSuchEntryError) as caught:
        put(tree, keys_of(path), 1)
    assert caught.value.path == path
    assert all(part in str(caught.value) for part in parts), caught.value
    with pytest.raises(KeyError, match=path):
        get(tree, keys_of(path))

"""Damage anywhere in an exported folder ends in ExportError, hidden or not: never in another way.

What hides damage here is a manifest with fitting checksums of the files. Files whose checksums do
not fit are refused before anything of them is read.
"""

from __future__ import annotations

import contextlib
import random

import pytest
from exported_folders import MANIFEST, MODEL, README, VERIFY, read_manifest, small_folder
from exported_folders import reseal as hide
from hypothesis import given, settings
from hypothesis import strategies as st

from sqtune.deploy.checking import check_codes, check_folder
from sqtune.deploy.checks.described import described
from sqtune.deploy.checks.seal import sealed
from sqtune.deploy.checks.stored_images import stored_images
from sqtune.deploy.checks.wire import initializers
from sqtune.errors import ExportError
from sqtune.quant import Binary, Uniform

NAMES = [MODEL, VERIFY, README, MANIFEST]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "deployed"
    return small_folder(folder, Uniform(bits=3), form="onnx")


def flipped(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    changed[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_anywhere_is_refused(folder, name):
    data = (folder / name).read_bytes()
    generator = random.Random(name)
    for _ in range(60):
        (folder / name).write_bytes(flipped(data, generator))
        with pytest.raises(ExportError):
            check_folder(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_anywhere_is_refused(folder, name):
    data = (folder / name).read_bytes()
    generator = random.Random(name)
    for end in {0, 1, 2, len(data) - 1, *(generator.randrange(len(data)) for _ in range(40))}:
        (folder / name).write_bytes(data[:end])
        with pytest.raises(ExportError):
            check_folder(folder)


def test_codes_that_are_flipped_and_hidden_are_found_by_the_manifests_own(folder):
    """Every bit of the packed codes counts, but for the unused ones at their end."""
    about = described((folder / MANIFEST).read_bytes())
    data = (folder / MODEL).read_bytes()
    tensors = initializers(data)
    tensor = tensors[about.packed[0].placement.tensor]
    begin, size = data.index(bytes(tensor.raw)), len(tensor.raw)
    assert check_codes(about, tensors) == 5436
    generator = random.Random(1)
    places = [begin, begin + size // 2, *(begin + generator.randrange(size) for _ in range(60))]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << generator.randrange(8)
        if (place - begin) % (size // 3) == size // 3 - 1:  # the last byte of a plane: 4 of 8 used
            continue
        with pytest.raises(ExportError, match=r"the codes of layer .* are not those"):
            check_codes(about, initializers(bytes(changed)))
    for place in places[:3]:
        changed = bytearray(data)
        changed[place] ^= 1
        (folder / MODEL).write_bytes(bytes(changed))
        hide(folder)
        with pytest.raises(ExportError, match="the codes of layer"):
            check_folder(folder)


def test_hidden_damage_of_the_model_is_refused_or_changes_no_prediction(folder):
    """ONNX Runtime itself gets to see these: it refuses them, or predictions tell."""
    data = (folder / MODEL).read_bytes()
    generator = random.Random(2)
    num_refused = 0
    for _ in range(60):
        (folder / MODEL).write_bytes(flipped(data, generator))
        hide(folder)
        try:
            report = check_folder(folder)
        except ExportError:
            num_refused += 1
        else:  # an unused bit, or a name that nothing refers to
            assert report.optimised.num_ties == report.plain.num_ties == 0
            assert report.plain.max_difference < 1e-4 * report.plain.largest_logit
    assert num_refused > 40


def test_hidden_damage_of_the_images_is_refused_or_read(folder):
    data = (folder / VERIFY).read_bytes()
    generator = random.Random(3)
    num_refused = 0
    for _ in range(300):
        changed = flipped(data, generator)
        cut = changed[: generator.randrange(len(changed))] if generator.random() < 0.2 else changed
        try:
            stored_images(cut, (3, 12, 12), 5)
        except ExportError:
            num_refused += 1
    assert num_refused > 250  # what passes are names, times and flags that nothing hangs on


@given(st.binary(max_size=300), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_images(data, seed):
    for each in (data, b"PK\x03\x04" + data, data + b"PK\x05\x06" + bytes(18)):
        with pytest.raises(ExportError):
            stored_images(each, (3, 12, 12), 5)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(["onnx", "float", "0" * 64]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["shape", "tensor", "kind", "name", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
KEYS = ["form", "activations", "classes", "input", "output", "runtime", "layers", "sha256"]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_json_in_any_place_of_a_sealed_manifest(whole, data):
    content = read_manifest(whole)
    place = data.draw(st.sampled_from([*KEYS, "layer", "placement"]))
    if place in KEYS:
        content[place] = data.draw(JSON)
    else:
        layer = content["layers"][data.draw(st.integers(0, 9))]
        inside = layer if place == "layer" else layer["placement"]
        inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(JSON)
    text = sealed(content).encode()
    model = (whole / MODEL).read_bytes()
    try:
        about = described(text)
        if about.oldest_runtime is not None:
            check_codes(about, initializers(model))
    except ExportError as error:
        str(error).encode()  # can be printed


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_as_a_manifest(data):
    for each in (data, b"{" + data + b"}", b'{"format": 1, "x": "' + data + b'"}'):
        with pytest.raises(ExportError):
            described(each)


def test_native_files_too(tmp_path):
    folder = small_folder(tmp_path / "deployed", Binary(), form="native")
    data = (folder / MODEL).read_bytes()
    generator = random.Random(4)
    for _ in range(25):
        (folder / MODEL).write_bytes(flipped(data, generator))
        hide(folder)
        with contextlib.suppress(ExportError):
            check_folder(folder)

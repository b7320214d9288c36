"""A manifest is read strictly: every field that is not as it has to be is refused by name."""

from __future__ import annotations

import hashlib

import pytest
from exported_folders import (
    MANIFEST,
    altered,
    read_manifest,
    refuses,
)

from sqtune.deploy.checking import check_folder
from sqtune.deploy.checks.described import CannotCheckError, described
from sqtune.deploy.checks.seal import check_seal, sealed
from sqtune.errors import ExportError


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "a/b", "a\\b", "", "C:x", MANIFEST, "a\nb"]
)
def test_names_that_are_no_file_of_the_folder(folder, name):
    digests = read_manifest(folder)["sha256"]
    altered(folder, sha256={**digests, name: "0" * 64})
    refuses(folder, "sha256 has to be the name of a file beside it")


def test_a_newer_format_another_form_and_an_older_runtime(folder):
    runtime = read_manifest(folder)["runtime"]
    altered(folder, format=2)
    refuses(folder, "format 2; this sqtune knows up to 1", CannotCheckError)
    altered(folder, format=0)
    refuses(folder, "format has to be 1, not 0")
    altered(folder, format=1, form="torch", runtime=None)
    refuses(folder, "form torch, which ONNX Runtime does not run", CannotCheckError)
    altered(folder, form="tarball")
    refuses(folder, "form has to be one of onnx, native, torch, c, not 'tarball'")
    altered(folder, form="onnx", runtime={**runtime, "oldest_onnxruntime": "99.0.0"})
    refuses(folder, "needs ONNX Runtime 99.0.0 or newer", CannotCheckError)
    for wrong in ("1.\u00b2", "new", "1", "1.2.3.4.5", "9" * 5000, 1.16, None):
        altered(folder, runtime={"oldest_onnxruntime": wrong})
        refuses(folder, "runtime.oldest_onnxruntime has to be")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 200_000, "is no JSON"),
        (b'{"format": ' + b"9" * 5000 + b"}", "is no JSON"),
        (b"[]", "format has to be of type int, not None"),
        (b'{"format": true}', "format has to be of type int, not True"),
        (b'{"format": 1}', "was changed after the export"),
        (b" " * ((1 << 24) + 1), "is larger than"),
    ],
    ids=range(8),
)
def test_manifests_that_are_none(folder, text, message):
    (folder / MANIFEST).write_bytes(text)
    refuses(folder, message)


def test_the_number_of_rounded_activations_is_one_and_may_be_missing(folder):
    for wrong in (None, -1, 0.5, "1", True):
        altered(folder, rounded_activations=wrong)
        with pytest.raises(ExportError, match="rounded_activations has to be"):
            check_folder(folder)
    content = read_manifest(folder)
    del content["rounded_activations"]  # as an older version wrote it
    assert described(sealed(content).encode()).num_rounded == 0


def test_every_field_of_another_type_is_refused_by_name(folder):
    content = read_manifest(folder)
    checked = ("form", "activations", "classes", "input", "output", "runtime", "layers", "sha256")
    for key in checked:
        for wrong in (None, 5, -1, [], {}, "x", [None], {"shape": [0]}, {"shape": [10**30]}):
            if (key, wrong) == ("layers", []):
                continue
            altered(folder, **{**content, key: wrong})
            with pytest.raises(ExportError):
                check_folder(folder)
    layer = content["layers"][0]
    for key in ("name", "shape", "levels_sha256", "scales_sha256", "placement"):
        for wrong in (None, 5, [], {}, [-1], "x", [2**62, 2**62]):
            if (key, wrong) in (("name", "x"), ("levels_sha256", None)):
                continue
            altered(folder, layers=[{**layer, key: wrong}])
            with pytest.raises(ExportError, match=rf"layers\[0\].{key}"):
                check_folder(folder)
    for key, good in layer["placement"].items():
        if key in ("source", "shape"):
            continue
        for wrong in (None, [], {}, 10**40 if isinstance(good, int) else "\u2028", -1):
            altered(folder, layers=[{**layer, "placement": {**layer["placement"], key: wrong}}])
            with pytest.raises(ExportError):
                check_folder(folder)


def test_texts_that_are_no_unicode(folder):
    zeros = "0" * 64
    text = sealed({**read_manifest(folder), "form": "HERE"}).replace("HERE", r"\ud800")
    text = text[: -len(zeros) - 4] + zeros + text[-4:]
    seal = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(text.replace(zeros, seal), encoding="utf-8")
    refuses(folder, r"form has to be one of .* not '\\ud800'")
    with pytest.raises(ExportError, match=r"cannot be written: .*surrogates not allowed"):
        sealed({"classes": ["\udcff"]})


def test_the_seal_covers_every_byte(folder):
    text = (folder / MANIFEST).read_bytes()
    check_seal(text)
    for place in range(0, len(text), 7):
        changed = bytearray(text)
        changed[place] ^= 1
        with pytest.raises(ExportError, match="was changed after the export"):
            check_seal(bytes(changed))
    with pytest.raises(ExportError, match="cannot be written: Out of range"):
        sealed({"error": float("nan")})

"""An exported folder is checked with ONNX Runtime, and whatever is not as exported is named."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_folders import (
    MANIFEST,
    MODEL,
    README,
    VERIFY,
    read_manifest,
    reseal,
    small_folder,
    write_folder,
    write_manifest,
)
from onnx import numpy_helper
from small_networks import images, small_graph

import sqtune.deploy.checking as checking_module
from sqtune.deploy.checking import check_folder, main
from sqtune.deploy.described import CannotCheckError
from sqtune.deploy.graph import Conv, Linear, Packed
from sqtune.deploy.onnx_model import onnx_file
from sqtune.deploy.run import run
from sqtune.deploy.seal import check_seal, sealed
from sqtune.deploy.stored_images import StoredImages, stored_images, to_npz
from sqtune.errors import ExportError
from sqtune.quant import Activations, Binary, Float, LayerRule, Ternary, Uniform


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    rules = (LayerRule("head", Float()),)
    return small_folder(tmp_path_factory.mktemp("whole") / "deployed", Ternary(), rules=rules)


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "deployed"))


QUANTIZERS = [Binary(), Ternary(), Float(), *(Uniform(bits=bits) for bits in (2, 3, 4, 8))]


@pytest.mark.parametrize("form", ["onnx", "native"])
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_what_was_exported_is_whole(tmp_path, quantizer, form):
    folder = small_folder(tmp_path / "deployed", quantizer, form)
    report = check_folder(folder)
    assert (report.form, report.activations, report.num_files) == (form, "float", 3)
    assert report.num_bytes == sum(
        (folder / name).stat().st_size for name in (MODEL, VERIFY, README)
    )
    assert (report.num_layers, report.num_packed) == (10, 0 if quantizer == Float() else 10)
    assert report.num_codes == (0 if quantizer == Float() else 5436)
    for agreement in (report.optimised, report.plain):
        assert (agreement.num_images, agreement.num_equal, agreement.num_ties) == (16, 16, 0)
        assert agreement.max_difference < 1e-6
    assert report.extra_files == ()


def test_the_command_prints_a_line_for_each_check(folder):
    (folder / "notes\x1b[31m.txt").write_text("mine")
    done = run_command(folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    begins = ["manifest", "files", "runtime", "weights", "optimised", "plain", str(folder)]
    assert [line.split(" ")[0] for line in lines] == begins
    assert r"beside them 'notes\x1b[31m.txt'" in lines[1]
    assert "16 of 16 classes equal, 0 ties" in lines[4]


def run_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "sqtune.deploy.checking", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(checking_module.__file__).parents[2],
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("missing", ["numpy", "onnxruntime"])
def test_without_numpy_or_onnx_runtime_it_says_so(folder, tmp_path, missing):
    (tmp_path / "without").mkdir()
    line = f"raise ModuleNotFoundError(\"No module named '{missing}'\", name='{missing}')\n"
    (tmp_path / "without" / f"{missing}.py").write_text(line)
    done = run_command(folder, PYTHONPATH=str(tmp_path / "without"))
    assert done.returncode == 2
    assert f"error: No module named '{missing}'; the check needs numpy and ONNX" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_check_needs_nothing_but_numpy_and_onnx_runtime():
    names = ("checking", "predictions", "stored_images", "unpack", "runtime")
    code = f"import sys, {', '.join('sqtune.deploy.' + name for name in names)};"
    code += "print({name.partition('.')[0] for name in sys.modules} - {*sys.stdlib_module_names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {name for name in ast.literal_eval(done.stdout) if not name.startswith("_")}
    assert found <= {"numpy", "sqtune", "sitecustomize", "usercustomize"}


def exit_code(folder, capsys):
    code = main([str(folder)])
    assert "Traceback" not in capsys.readouterr().err
    return code


def test_exit_codes(folder, tmp_path, capsys):
    assert exit_code(folder, capsys) == 0
    assert main([]) == main(["--help"]) == main(["a", "b"]) == 2
    assert exit_code(tmp_path / "nowhere", capsys) == 2
    (folder / README).unlink()
    assert exit_code(folder, capsys) == 1


def refuses(folder, message, kind=ExportError):
    with pytest.raises(kind, match=message) as error:
        check_folder(folder)
    assert isinstance(error.value, CannotCheckError) == (kind is CannotCheckError)


@pytest.mark.parametrize("name", [MODEL, VERIFY, README, MANIFEST])
def test_a_missing_a_changed_and_a_lengthened_file(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data + b" ")
    refuses(folder, f"{name} was changed")
    (folder / name).unlink()
    refuses(folder, f"{name} is missing")
    (folder / name).mkdir()
    refuses(folder, f"{name} is no plain file")
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    refuses(folder, f"{name} is no plain file")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refuses(folder, f"{name} (cannot be read|is missing)")


def test_a_link_inside_of_the_folder_is_fine_and_one_that_leads_out_is_not(folder, tmp_path):
    (folder / README).rename(folder / "moved.md")
    (folder / README).symlink_to("moved.md")
    check_folder(folder)
    (folder / "moved.md").rename(tmp_path / "moved.md")
    (folder / README).unlink()
    (folder / README).symlink_to("../moved.md")
    refuses(folder, "README.md leads out of its folder")


def altered(folder, **changes):
    content = {**read_manifest(folder), **changes}
    (folder / MANIFEST).write_text(sealed(content), encoding="utf-8")


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


def replaced(folder, change):
    """Change the model as `change` says, with all checksums of files as if nothing was."""
    model = onnx.load(folder / MODEL)
    change(model.graph)
    onnx.save(model, folder / MODEL)
    reseal(folder)


def packed_layer(folder, index=3):
    return read_manifest(folder)["layers"][index]


def test_one_flipped_code_is_found_though_the_files_checksum_fits(folder):
    where = packed_layer(folder)["placement"]

    def flip(graph):
        tensor = next(each for each in graph.initializer if each.name == where["tensor"])
        raw = bytearray(tensor.raw_data)
        raw[where["first"] // 5 + 1] ^= 1
        tensor.raw_data = bytes(raw)

    replaced(folder, flip)
    refuses(folder, "the codes of layer 'group2.0.conv1' are not those of the trained network")


def test_one_changed_scale_is_found_though_the_files_checksum_fits(folder):
    where = packed_layer(folder)["placement"]

    def nudge(graph):
        tensor = next(each for each in graph.initializer if each.name == where["scale"])
        values = numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nextafter(values.flat[0], np.float32(9))
        tensor.raw_data = values.tobytes()

    replaced(folder, nudge)
    refuses(folder, "the scales of layer .* are not those of the trained network")


@pytest.mark.parametrize("quantizer", [Binary(), Uniform(bits=4)], ids=str)
def test_other_codes_with_all_checksums_of_their_own_give_other_predictions(tmp_path, quantizer):
    graph, logits = small_graph(quantizer)
    weight = graph.layers[4].weight
    assert isinstance(weight, Packed)
    weight.codes.flat[0] = -weight.codes.flat[0] or 1
    folder = write_folder(tmp_path / "deployed", graph, logits)
    refuses(folder, "(logits|classes) than torch for .* of 16 images")


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_activations_on_grids_and_one_changed_code_behind_them(tmp_path, bits):
    graph, _ = small_graph(Uniform(bits=4), activations=Activations(bits))
    graph = without_biases(graph)  # those are rounded in the file
    logits = run(graph, images(40, graph.image_shape)).numpy()
    folder = write_folder(tmp_path / "deployed", graph, logits, activations="trained")
    report = check_folder(folder)
    assert report.activations == "trained"
    assert report.plain.num_moved + report.optimised.num_moved <= 4
    codes = graph.layers[0].weight.codes
    codes.flat[4] = 7 if codes.flat[4] < 3 else -7
    folder = write_folder(tmp_path / "other", graph, logits, activations="trained")
    refuses(folder, "(logits|classes) than torch for .* of 40 images")


def without_biases(graph):
    nodes = [
        replace(node, bias_O=np.zeros_like(node.bias_O))
        if isinstance(node, Conv | Linear)
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def test_a_changed_graph_is_found_by_its_predictions(folder):
    def no_relu(graph):
        node = next(each for each in graph.node if each.op_type == "Relu")
        node.op_type = "Abs"

    replaced(folder, no_relu)
    refuses(folder, "model.onnx with graph optimisations on (gives|predicts) other")


def test_a_graph_that_the_runtime_refuses(folder):
    def nonsense(graph):
        graph.node[-1].op_type = "Nonsense"

    replaced(folder, nonsense)
    refuses(folder, "the model cannot be loaded by ONNX Runtime")


def test_a_graph_for_other_images(tmp_path):
    graph, logits = small_graph(Binary())
    folder = write_folder(tmp_path / "deployed", graph, logits)
    (folder / MODEL).write_bytes(
        onnx_file(small_graph(Binary(), shape=(1, 12, 12))[0], "onnx").data
    )
    content = read_manifest(folder)
    write_manifest(folder, {**content, "layers": []})
    refuses(folder, "model.onnx with graph optimisations on cannot be run")


def stored(num=4, classes=5):
    labels = np.zeros(num, np.int64)
    return StoredImages(images(num).numpy(), labels, np.ones((num, classes), np.float32))


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(Path("executed").absolute()),)


def test_images_are_read_as_they_were_stored_by_us_and_by_numpy():
    good = stored()
    by_numpy = npz(images=good.images, labels=good.labels, logits=good.logits)
    for data in (to_npz(good), by_numpy):
        found = stored_images(data, (3, 12, 12), 5)
        for name in ("images", "labels", "logits"):
            assert np.array_equal(getattr(found, name), getattr(good, name))
    assert to_npz(good) == to_npz(good)


def test_pickles_are_refused_unexecuted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = stored()
    objects = np.empty(4, object)
    objects[:] = [Bomb() for _ in range(4)]
    for name in ("images", "labels", "logits"):
        arrays = {"images": good.images, "labels": good.labels, "logits": good.logits}
        with pytest.raises(ExportError, match=f"{name} is of type object"):
            stored_images(npz(**{**arrays, name: objects}), (3, 12, 12), 5)
    assert not (tmp_path / "executed").exists()


def test_images_of_other_types_shapes_and_numbers():
    good = stored()
    arrays = {"images": good.images, "labels": good.labels, "logits": good.logits}
    infinite = good.logits.copy()
    infinite[2, 1] = np.inf
    for name, wrong, message in [
        ("images", good.images.astype(np.int8), "images is of type int8"),
        ("images", good.images[:3], "images has shape"),
        ("images", np.asfortranarray(good.images), "in C order"),
        ("labels", good.labels + 5, "labels are not all 0 to 4"),
        ("labels", good.labels - 1, "labels are not all 0 to 4"),
        ("labels", good.labels.astype(">i8"), "labels is of type >i8"),
        ("logits", infinite, "logits are not finite"),
        ("logits", good.logits[:0], "logits has shape"),
        ("logits", np.ones((1001, 5), np.float32), "with up to 1000 rows"),
        ("more", good.labels, "other files than its three"),
    ]:
        with pytest.raises(ExportError, match=message):
            stored_images(npz(**{**arrays, name: wrong}), (3, 12, 12), 5)


def test_an_archive_that_unpacks_to_too_much():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("images", "labels", "logits"):
            archive.writestr(f"{name}.npy", to_npy(stored(), name))
        archive.filelist[0].file_size = 1 << 40
    with pytest.raises(ExportError, match=r"take more than|damaged"):
        stored_images(file.getvalue(), (3, 12, 12), 5)


def to_npy(found, name):
    file = io.BytesIO()
    np.save(file, getattr(found, name))
    return file.getvalue()

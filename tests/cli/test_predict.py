"""`predict`: the classes that training would have seen, from every form that runs here."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps

from sqtune.cli import main
from sqtune.config import TrialConfig
from sqtune.data.prepare import prepare
from sqtune.deploy.onnx.model import onnx_file
from sqtune.deploy.subject import open_subject
from sqtune.deploy.torch_file import torch_bytes
from sqtune.train.checkpoint import load_codes, load_network
from sqtune.train.loop import train

CLASSES = ("blue", "green", "red")
FILES = {"onnx": "model.onnx", "native": "model.onnx", "torch": "model.safetensors", "c": "model.c"}


def invoke(*arguments: object):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def write_images(root: Path) -> None:
    """Write photos of three colours, of many sizes and kinds of file."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for index in range(14):
            height, width = generator.integers(12, 30, 2)
            pixels = generator.integers(0, 160, (height, width, 3), dtype=np.uint8)
            pixels[..., 2 - label] += 90
            kind = ("png", "jpg", "bmp")[index % 3]
            Image.fromarray(pixels).save(root / name / f"{index:02}.{kind}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Return a folder of images and a network trained on them."""
    images, network = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("out") / "network"
    write_images(images)
    config = TrialConfig.model_validate(
        {
            "data": {"name": "image_folder", "root": str(images), "image_size": 12},
            "network": {"name": "resnet8", "width": 4},
            "quantizer": {"name": "ternary"},
            "batch_size": 8,
            "num_epochs": 2,
        },
        strict=False,
    )
    list(train(config, splits=prepare(config.data), num_threads=1, save_to=network))
    return images, network


@pytest.fixture(scope="module", params=["onnx", "torch"])
def exported(request, trained, tmp_path_factory) -> tuple[Path, Path]:
    """Return a folder of images and an exported network."""
    return trained[0], export(trained[1], tmp_path_factory.mktemp("exported"), request.param)


def export(network: Path, folder: Path, form: str) -> Path:
    """Write a folder as sqtune export does, as far as predicting reads it."""
    saved = load_network(network)
    subject = open_subject(network, prepare(saved.config.data))
    if form == "torch":
        data = torch_bytes(saved, load_codes(network))
    else:
        data = onnx_file(subject.graph, "onnx").data
    (folder / FILES[form]).write_bytes(data)
    manifest = {
        "form": form,
        "classes": list(saved.about.classes),
        "input": {"shape": [saved.about.num_channels, *saved.about.image_size]},
        "runtime": {"oldest_onnxruntime": "1.16.3"} if form in ("onnx", "native") else None,
        "sha256": {FILES[form]: hashlib.sha256(data).hexdigest()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_images_of_the_validation_split_get_the_networks_own_predictions(trained, exported):
    images, folder = exported
    subject = open_subject(trained[1], prepare(load_network(trained[1]).config.data))
    chances = subject.logits.double().softmax(dim=1)
    validation = subject.splits.validation.images
    rows = zip(validation, chances, strict=True)
    expected = {pixels.numpy().tobytes(): row for pixels, row in rows}
    answer = json.loads(invoke(folder, images, "--json").stdout)
    assert answer["form"] in ("onnx", "torch")
    found = 0
    for each in answer["images"]:
        with Image.open(each["image"]) as file:
            image = file.convert("RGB")
        image = ImageOps.fit(image, (12, 12), Image.Resampling.BILINEAR)
        row = expected.get(np.asarray(image).transpose(2, 0, 1).tobytes())
        if row is None:
            continue
        found += 1
        named = {top["class"]: top["probability"] for top in each["top"]}
        assert each["top"][0]["class"] == CLASSES[int(row.argmax())]
        assert [named[name] for name in CLASSES] == pytest.approx(row.tolist(), abs=1e-5)
    assert found == len(validation)
    assert len(answer["images"]) == 3 * 14


def test_people_read_a_line_for_each_image(exported):
    images, folder = exported
    one, other = images / "red" / "00.png", images / "blue" / "01.jpg"
    answer = invoke(folder, one, other)
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [str(one), str(other)]
    shares = [float(share) for share in lines[0].split()[2::3]]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(("top", "classes"), [(1, 1), (2, 2), (9, 3)])
def test_top_says_how_many_classes(exported, top, classes):
    images, folder = exported
    answer = invoke(folder, images / "red", "--top", top, "--json")
    assert {len(each["top"]) for each in json.loads(answer.stdout)["images"]} == {classes}


def test_grey_files_and_transparent_ones_become_what_the_network_takes(exported, tmp_path):
    for mode in ("L", "RGBA", "P", "I;16", "1", "CMYK"):
        kind = "jpg" if mode == "CMYK" else "png"
        Image.new(mode, (20, 16)).save(tmp_path / f"{mode.replace(';', '')}.{kind}")
    answer = invoke(exported[1], tmp_path, "--json")
    assert answer.exit_code == 0, answer.output
    assert len(json.loads(answer.stdout)["images"]) == 6


def test_a_trained_network_predicts_too(trained):
    answer = invoke(trained[1], trained[0], "--json")
    assert json.loads(answer.stdout)["form"] == "torch"


def test_the_same_network_says_the_same_in_every_form(trained, tmp_path):
    answers = []
    for form in ("onnx", "torch"):
        (tmp_path / form).mkdir()
        folder = export(trained[1], tmp_path / form, form)
        found = json.loads(invoke(folder, trained[0], "--json").stdout)["images"]
        answers.append([[top["class"] for top in each["top"]] for each in found])
    assert answers[0] == answers[1]


def refused(answer, *parts: str) -> None:
    assert answer.exit_code == 2, answer.output
    assert all(part in answer.stderr for part in parts), answer.stderr
    assert "Traceback" not in answer.output
    assert not answer.stdout


def test_what_is_no_image_is_named(exported, tmp_path):
    images, folder = exported
    good = images / "red" / "00.png"
    text, cut, big = tmp_path / "text.png", tmp_path / "cut.jpg", tmp_path / "gone.png"
    text.write_text("no image")
    cut.write_bytes((images / "red" / "01.jpg").read_bytes()[:200])
    refused(invoke(folder, cut), str(cut), "cannot be read as an image")
    some = invoke(folder, text, good, cut, good)
    assert some.exit_code == 2
    assert [line.split()[0] for line in some.stdout.splitlines()] == [str(good)] * 2
    assert all(f"{path} cannot be read as an image" in some.stderr for path in (text, cut))
    told = invoke(folder, good, text, "--json")
    assert told.exit_code == 2
    assert [each["image"] for each in json.loads(told.stdout)["images"]] == [str(good)]
    [unread] = json.loads(told.stdout)["unreadable"]
    assert unread["image"] == str(text)
    assert "cannot be read as an image" in unread["error"]
    refused(invoke(folder, big), str(big), "no such file")


def test_no_images_at_all(exported, tmp_path):
    refused(invoke(exported[1]), "IMAGE")
    (tmp_path / "notes.txt").write_text("no image")
    refused(invoke(exported[1], tmp_path), str(tmp_path), "has no images (.jpg")


def test_a_folder_that_holds_no_network(exported, tmp_path):
    image = exported[0] / "red" / "00.png"
    refused(invoke(tmp_path, image), str(tmp_path), "holds no network")
    refused(invoke(tmp_path / "nowhere", image), "nowhere", "cannot be read")


def test_c_sources_say_to_compile_them(trained, tmp_path):
    folder = export(trained[1], tmp_path, "c")
    refused(invoke(folder, trained[0]), "compile", "--form onnx or torch")


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "manifest"])
def test_a_damaged_folder_is_refused(exported, tmp_path, damage):
    images, folder = exported
    folder = Path(shutil.copytree(folder, tmp_path / "copy"))
    model = next(folder.glob("model.*"))
    manifest = folder / "manifest.json"
    data = bytearray(model.read_bytes())
    match damage:
        case "bit":
            data[len(data) // 2] ^= 1
            model.write_bytes(data)
        case "cut":
            model.write_bytes(data[:-1])
        case "gone":
            model.unlink()
        case "manifest":
            manifest.write_text(manifest.read_text()[:-10])
    refused(invoke(folder, images / "red" / "00.png"), "anew")


def test_a_manifest_with_more_classes_than_the_network_is_refused(trained, tmp_path):
    folder = export(trained[1], tmp_path, "onnx")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"red"', '"red", "yellow"'))
    refused(invoke(folder, trained[0] / "red"), "3 logits", "4 classes")


def test_a_runtime_that_is_too_old_is_named(trained, tmp_path):
    folder = export(trained[1], tmp_path, "onnx")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("1.16.3", "99.0.0"))
    refused(invoke(folder, trained[0]), "99.0.0", "pip install")


def test_predicting_by_onnx_needs_no_torch(trained, tmp_path):
    folder = export(trained[1], tmp_path, "onnx")
    image = str(trained[0] / "red" / "00.png")
    code = (
        "import sys\nfrom sqtune.cli import main\n"
        f"main(['predict', {str(folder)!r}, {image!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_network_and_images_are_what_torch_says(trained):
    """The predictions of the other tests are not all one class."""
    subject = open_subject(trained[1], prepare(load_network(trained[1]).config.data))
    assert torch.unique(subject.logits.argmax(dim=1)).numel() > 1

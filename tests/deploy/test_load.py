"""`sqtune.load`: the same network from every place that holds one, and what to do elsewhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from saved_networks import network_config, save
from small_networks import images

import sqtune
from sqtune.deploy.torch_file import torch_bytes
from sqtune.errors import ExportError, StoreError
from sqtune.quant import LearnedTernary
from sqtune.train.checkpoint import load_codes, load_network

ROOT = Path(__file__).parents[2]


@pytest.fixture
def network(tmp_path) -> Path:
    save(tmp_path / "network", network_config(quantizer=LearnedTernary(), activation_bits=4))
    return tmp_path / "network"


def exported(network: Path, form: str = "torch") -> Path:
    """Write a folder as sqtune export does, as far as loading reads it."""
    folder = network.with_name(f"exported-{form}")
    folder.mkdir()
    name = {"torch": "model.safetensors", "c": "model.c"}.get(form, "model.onnx")
    data = torch_bytes(load_network(network), load_codes(network))
    (folder / name).write_bytes(data)
    manifest = {
        "form": form,
        "classes": ["a", "b"],
        "input": {"shape": [3, 12, 12]},
        "runtime": {"oldest_onnxruntime": "1.16.3"} if "onnx" in name else None,
        "sha256": {name: hashlib.sha256(data).hexdigest()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_folder_and_file_and_trained_network_are_one_network(network):
    folder = exported(network)
    pixels = images(16)
    _, logits = save(network, network_config(quantizer=LearnedTernary(), activation_bits=4))
    for path in (network, str(folder), folder / "model.safetensors"):
        model = sqtune.load(path)
        assert torch.equal(model(pixels), logits)
        assert len(model.classes) == logits.shape[1]


@pytest.mark.parametrize(
    ("form", "instead"), [("onnx", "sqtune predict"), ("native", "ONNX Runtime"), ("c", "compile")]
)
def test_a_folder_of_another_form_says_what_to_do(network, form, instead):
    with pytest.raises(ExportError, match=f"{instead}.* sqtune export --form torch"):
        sqtune.load(exported(network, form))


def test_an_onnx_file_says_what_to_do(tmp_path):
    with pytest.raises(ExportError, match="ONNX Runtime"):
        sqtune.load(tmp_path / "model.onnx")


@pytest.mark.parametrize("damage", ["other model", "no model", "manifest", "form", "list"])
def test_a_damaged_folder_is_refused(network, damage):
    folder = exported(network)
    model, manifest = folder / "model.safetensors", folder / "manifest.json"
    match damage:
        case "other model":  # whole in itself, but not the one that was exported
            save(network, network_config(quantizer=LearnedTernary(), activation_bits=4), seed=1)
            model.write_bytes(torch_bytes(load_network(network), load_codes(network)))
        case "no model":
            model.unlink()
        case "manifest":
            manifest.write_text(manifest.read_text()[:-5])
        case "form":
            manifest.write_text(manifest.read_text().replace('"torch"', '"os.system"'))
        case "list":
            manifest.write_text("[1, 2]")
    place = manifest if damage in ("manifest", "form", "list") else model
    with pytest.raises(ExportError, match=r"(damaged|cannot be read).* anew\.") as caught:
        sqtune.load(folder)
    assert str(place) in str(caught.value)


def test_a_damaged_trained_network_is_refused(network):
    path = network / "codes.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="damaged"):
        sqtune.load(network)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_where_no_network_lies_is_an_error(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match=r"cannot be read|holds no network"):
        sqtune.load(tmp_path / place)


def test_importing_sqtune_imports_nothing_heavy():
    code = (
        "import sys, sqtune\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'safetensors', 'onnxruntime'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from sqtune import load\n"
        "assert 'torch' in sys.modules and 'torchvision' not in sys.modules\n"
        "assert sqtune.load is load\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="loda"):
        _ = sqtune.loda

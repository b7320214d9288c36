"""`export` and `verify` as they are typed, on a real study: every form, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from sqtune.cli import main
from sqtune.deploy.folder import sha256
from sqtune.deploy.runtime import open_session, runner
from sqtune.search.look import load_study

SPACE = Path(__file__).parents[2] / "search_spaces" / "resnet.yaml"
SMALL = ("trial.num_epochs=2", "trial.network.width=4", "target={max_ram: 2KiB}")  # as onnx


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Return the store of a study of three trials."""
    folder = tmp_path_factory.mktemp("study") / "store"
    command = [sys.executable, "-m", "sqtune", "search", "--space", str(SPACE), "--trials", "3"]
    command += ["--store", str(folder), *(word for value in SMALL for word in ("--set", value))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def typed(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def exported(store: Path, out: Path, *arguments: object) -> dict:
    """Export with --json; return what was printed."""
    answer = typed("export", "--store", store, "--out", out, "--json", *arguments)
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def refused(store: Path, out: Path, *arguments: object) -> str:
    """Return the message of an export that is refused and leaves nothing behind."""
    before = sorted(out.parent.iterdir())
    answer = typed("export", "--store", store, "--out", out, *arguments)
    assert answer.exit_code == 2, answer.output
    assert "Traceback" not in answer.output
    assert sorted(out.parent.iterdir()) == before
    return answer.stderr


def test_the_best_network_is_exported_proven_and_registered(store, tmp_path, monkeypatch):
    printed = exported(store, tmp_path / "out")
    folder, manifest = tmp_path / "out", printed["manifest"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.onnx", "manifest.json", "README.md", "verify.npz"}
    text = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {key: text[key] for key in manifest} == manifest
    found = manifest["verification"]["optimised"]
    assert (found["num_images"], found["num_ties"]) == (451, 0)
    size, errors = manifest["size"], manifest["errors"]
    assert size["bytes"] == (folder / "model.onnx").stat().st_size <= size["predicted_bytes"]
    assert errors["validation"] == errors["validation_torch"]
    best = json.loads(typed("best", "--store", store, "--json").stdout)
    assert errors["validation"] == best["val_error"]
    assert errors["test"] == best["test_error"]
    assert printed["registered"]["name"] == "sqtune-resnet"

    answer = typed("verify", folder)
    assert answer.exit_code == 0, answer.stderr
    assert "codes of 10 layers and their scales as trained" in answer.stdout

    monkeypatch.chdir(tmp_path)
    from mlflow import MlflowClient, pyfunc

    client = MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")
    version = client.get_model_version_by_alias("sqtune-resnet", "best")
    assert version.run_id == manifest["source"]["run_id"]
    model = pyfunc.load_model(version.source)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    expected = runner(open_session(folder / "model.onnx"))(pixels)
    answer = model.predict(pixels)
    assert np.array_equal(answer["logits"] if isinstance(answer, dict) else answer, expected)


@pytest.mark.parametrize(("form", "trial"), [("native", 0), ("torch", 1), ("c", 1)])
def test_other_forms_of_a_chosen_trial(store, tmp_path, form, trial):
    given = (
        "--store",
        store,
        "--out",
        tmp_path / "out",
        "--trial",
        trial,
        "--form",
        form,
        "--json",
    )
    answer = typed("export", *given, "--json")
    manifest = json.loads(answer.stdout)["manifest"]
    assert manifest["source"]["trial"] == trial
    if form == "native":  # registered, and not as the best
        assert json.loads(typed("best", "--store", store, "--json").stdout)["number"] != trial
        uri = json.loads(answer.stdout)["registered"]["uri"]
        assert uri == f"models:/sqtune-resnet@trial-{trial}"
    assert all(found["num_ties"] == 0 for found in agreements(manifest))
    assert typed("verify", tmp_path / "out").exit_code == 0
    if form == "c":
        size = manifest["size"]
        assert (size["bytes"], size["ram_bytes"]) == (
            size["predicted_bytes"],
            size["predicted_ram_bytes"],
        )
        readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
        assert f"| flash, data | {size['bytes']:,} bytes |\n" in readme
        assert f"| RAM | {size['ram_bytes']:,} bytes" in readme
    misses = "It takes 2.1 KiB of RAM, max_ram is 2.0 KiB. The search counted the form onnx."
    assert (f"warning: {misses}" in answer.stderr) is (form == "c")


def agreements(manifest: dict) -> list[dict]:
    return [found for found in manifest["verification"].values() if isinstance(found, dict)]


def test_whole_number_activations_of_an_mlflow_run(store, tmp_path):
    study, trials = load_study(str(store), None, None)
    run = ("--run", trials[2].run_id, "--activations", "int8")
    manifest = exported(store, tmp_path / "out", study.name, *run)["manifest"]
    assert manifest["source"]["trial"] == 2
    assert manifest["activations"] == "int8"
    grids = [layer["input"]["bits"] for layer in manifest["layers"]]
    assert grids == [8] * 10
    assert manifest["errors"]["validation"] <= manifest["errors"]["validation_torch"] + 0.03
    assert typed("verify", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("place", ["{}/no store", "memory://{}/store"])
def test_a_folder_that_training_wrote_is_exported_without_a_study(store, tmp_path, place):
    network = store / "networks" / "resnet" / "00000"
    printed = exported(place.format(tmp_path), tmp_path / "out", "--network", network)
    assert printed["registered"] is None
    assert printed["manifest"]["source"]["study"] is None


def test_people_see_every_check_and_where_the_bytes_are(store, tmp_path):
    answer = typed("export", "--store", store, "--out", tmp_path / "out")
    for part in (
        "451 of 451 classes equal",
        "the same graph as it runs",
        "group3.0.conv2",
        "bytes, predicted",
        "next      sqtune verify",
    ):
        assert part in answer.stdout


def test_a_place_that_is_taken_is_left_as_it_is(store, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    assert "holds mine.txt, which sqtune did not write" in refused(store, out)
    assert "even with --force" in refused(store, out, "--force")
    (out / "mine.txt").unlink()
    exported(store, out, "--form", "torch")
    assert "or --force to replace it" in refused(store, out)
    exported(store, out, "--form", "torch", "--trial", 1, "--force")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert "exists and is no folder" in refused(store, tmp_path / "file", "--force")


def test_what_cannot_be_chosen_is_refused(store, tmp_path):
    out = tmp_path / "out"
    assert "there is no trial 7" in refused(store, out, "--trial", 7)
    assert "there is no MLflow run abc" in refused(store, out, "--run", "abc")
    assert "give one of them" in refused(store, out, "--trial", 1, "--knee")
    assert "leave out the other limits" in refused(store, out, "--max-size", "9KiB", "--knee")
    assert "no network of" in refused(store, out, "--max-size", "1KiB")
    answer = refused(store, out, "--form", "torch", "--activations", "int8")
    assert "leave --activations out" in answer
    assert "there is no study" in refused(tmp_path / "elsewhere", out)


def test_a_damaged_network_is_not_exported_and_nothing_is_replaced(store, tmp_path):
    network, out = tmp_path / "network", tmp_path / "out"
    shutil.copytree(store / "networks" / "resnet" / "00001", network)
    exported(store, out, "--network", network, "--form", "torch")
    before = {path.name: sha256(path) for path in out.iterdir()}
    again = ("--network", network, "--form", "torch", "--force")

    weights = load_file(network / "weights.safetensors")
    weights["head.weight"] = -weights["head.weight"]
    save_file(weights, network / "weights.safetensors")
    assert "weights.safetensors is damaged: its checksum" in refused(store, out, *again)
    about = json.loads((network / "network.json").read_text(encoding="utf-8"))
    about["sha256"]["weights.safetensors"] = sha256(network / "weights.safetensors")
    (network / "network.json").write_text(json.dumps(about), encoding="utf-8")
    assert "the codes of head.weight are not those of its weights" in refused(store, out, *again)

    about["about"]["data_fingerprint"] = "0" * 64
    (network / "network.json").write_text(json.dumps(about), encoding="utf-8")
    assert "its images are not those it was trained on" in refused(store, out, *again)
    (network / "codes.safetensors").write_bytes(b"short")
    assert "codes.safetensors is damaged" in refused(store, out, *again)
    assert {path.name: sha256(path) for path in out.iterdir()} == before


@pytest.mark.parametrize("form", ["onnx", "torch", "c"])
def test_an_altered_folder_does_not_verify(store, tmp_path, form):
    out = tmp_path / "out"
    exported(store, out, "--form", form)
    model = next(path for path in out.iterdir() if path.stem == "model" and path.suffix != ".h")
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    answer = typed("verify", out)
    assert answer.exit_code == 2
    assert f"{model.name}" in answer.stderr
    assert "Traceback" not in answer.output
    model.unlink()
    assert typed("verify", out).exit_code == 2
    assert typed("verify", tmp_path / "nowhere").exit_code == 2

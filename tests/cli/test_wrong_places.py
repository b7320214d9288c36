"""Files, devices and batches that cannot be: one message with place, rule and remedy."""

from __future__ import annotations

import itertools
import os
import textwrap
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from commands import next_steps
from PIL import Image

from sqtune.cli import main
from sqtune.config import load_space
from sqtune.data import Digits
from sqtune.data.prepare import prepare
from sqtune.errors import StoreError, StudyError
from sqtune.networks import ResNet, build
from sqtune.search.prepare import file_hashes, prepare_data
from sqtune.search.storage import open_storage, study_names
from sqtune.search.study import Study
from sqtune.store import Store
from sqtune.train.start import read_weights

SPACE = Path(__file__).parents[2] / "search_spaces" / "resnet.yaml"
QUICK = ("--set", "trial.num_epochs=1", "--set", "trial.network.width=2")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: object, command: str = "train") -> str:
    """Return the message of a command that is refused before it trains."""
    words = [command, "--space", SPACE, *QUICK, *arguments]
    answer = CliRunner().invoke(main, [str(word) for word in words])
    assert answer.exit_code == 2, answer.output
    assert "Traceback" not in answer.output
    assert "epoch" not in answer.stdout
    return answer.stderr


def weights(width: int = 2) -> dict[str, torch.Tensor]:
    return build(ResNet("resnet8", width), 1, 10).state_dict()


def test_a_place_for_the_network_that_cannot_be_written_is_refused_before_training(folder):
    (folder / "file").write_text("mine")
    assert "--out file/net: cannot be written" in refused("--out", "file/net")
    (folder / "here").mkdir()
    os.chdir("here")  # pytest's monkeypatch puts the folder back
    assert "--out .: is the folder you are in" in refused("--out", ".")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    message = refused("--set", "resources.gpus=1")
    assert "resources.gpus: a trial asks for 1 GPUs, this machine has 0" in message


def test_batches_of_one_value_a_channel_are_an_error_that_names_the_batch_size():
    network = "trial.network={name: vgg9, width: 2}"
    message = refused("--set", network, "--set", "trial.batch_size=1")
    assert "Give trial.batch_size=2 or more" in message


def test_a_field_inside_a_mapping_that_was_set_is_named():
    assert "0.quantizer: this field is needed" in refused(
        "--set", "trial.overrides=[{match: group1}]"
    )
    message = refused("--set", 'trial.activation_bits="4"')
    assert "'4' is a text, and a number is needed: write 4" in message


def garbage(kind: str, path: Path) -> None:
    match kind:
        case "junk":
            path.write_bytes(b"junk")
        case "empty":
            path.write_bytes(b"")
        case "cut":
            torch.save(weights(), path)
            path.write_bytes(path.read_bytes()[:2000])
        case "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("other", "thing")
        case "bytes":
            path.write_bytes(bytes(range(256)) * 20)


@pytest.mark.parametrize("kind", ["junk", "empty", "cut", "zip", "bytes"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_weights_file_is_one_message(folder, kind, suffix):
    path = folder / f"net{suffix}"
    garbage(kind, path)
    with pytest.raises(StoreError, match=r"trial\.start\.weights: .*net"):
        read_weights(path, "trial.start.weights")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.to(torch.int8), r"head.weight is torch.int8 there, torch.float32"),
        (lambda v: v * float("nan"), r"head.weight holds numbers that are not finite"),
    ],
)
def test_weights_that_cannot_be_ones_are_named(folder, change, message):
    state = weights()
    torch.save({**state, "head.weight": change(state["head.weight"])}, folder / "net.pt")
    assert message in refused("--set", "trial.start.weights=net.pt")


def test_a_folder_that_holds_no_network_is_named_with_its_field(folder):
    (folder / "net").mkdir()
    assert "trial.start.weights: net does not hold" in refused("--set", "trial.start.weights=net")
    teacher = ("--set", "trial.distillation={weight: 0.5, teacher: net}")
    assert "trial.distillation.teacher: net does not hold" in refused(*teacher)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("{weights: other.pt}", "does not fit the network"),
        ("{weights: net.pt, fresh: [haed]}", "'haed' matches no module"),
        ("{weights: bad.pt}", "bad.pt is damaged"),
    ],
)
def test_a_search_refuses_a_start_before_it_writes_anything(folder, start, message):
    torch.save(weights(), folder / "net.pt")
    torch.save(weights(width=3), folder / "other.pt")
    (folder / "bad.pt").write_bytes(b"junk")
    assert message in refused("--set", f"trial.start={start}", command="search")
    assert not (folder / "sqtune-store").exists()


def test_a_study_refuses_to_go_on_from_other_weights(folder):
    torch.save(weights(), folder / "net.pt")
    changes = [*QUICK[1::2], "trial.start.weights=net.pt"]
    space, store = load_space(SPACE, changes), Store.at(str(folder / "store"))
    hashes = partial(file_hashes, space, store, prepare_data(space, store))
    store.create()
    storage = open_storage(store, None)
    Study.create_or_continue(storage, space, {}, hashes())
    assert study_names(storage) == ["resnet"]
    Study.create_or_continue(storage, space, {}, hashes())
    torch.save({**weights(), "head.bias": torch.ones(10)}, folder / "net.pt")
    with pytest.raises(StudyError, match=r"net\.pt has changed since.*--name"):
        Study.create_or_continue(storage, space, {}, hashes())


def write_images(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 8, 8), np.uint8)
    for label, number in itertools.product(range(2), range(12)):
        (folder / f"{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[label, number]).save(folder / f"{label}/{number}.png")


@pytest.mark.parametrize("storage", ["memory", "stream"])
def test_a_study_refuses_to_go_on_with_other_images(folder, storage):
    write_images(folder / "images")
    data = f"{{name: image_folder, root: images, channels: 1, image_size: 8, storage: {storage}}}"
    space, store = load_space(SPACE, [*QUICK[1::2], f"trial.data={data}"]), Store.at("store")

    def hashes():
        return file_hashes(space, store, prepare_data(space, store))

    store.create()
    studies = open_storage(store, None)
    Study.create_or_continue(studies, space, {}, hashes())
    for file in folder.glob("images/*/*.png"):  # as they were, but for their times: copied
        os.utime(file)
    Study.create_or_continue(studies, space, {}, hashes())
    changed = folder / "images/1" / ("7.png" if storage == "memory" else "12.png")
    changed.write_bytes((folder / "images/0/7.png").read_bytes())
    with pytest.raises(StudyError, match=r"image set images \(\w+\) has changed since\..*--name"):
        Study.create_or_continue(studies, space, {}, hashes())
    again = space.model_copy(update={"name": "again"})
    with pytest.raises(StudyError, match=r'"resnet" started from other files'):
        Study.create_or_continue(studies, again, {}, hashes(), marks={"confirms": "resnet"})
    assert study_names(studies) == ["resnet"]


def test_other_points_are_no_other_images(folder):
    """Points may be added, and a confirmation has the corners of the whole space."""
    text = """
    name: points
    trial: {data: {name: digits}, network: {name: resnet8, width: 2}, num_epochs: 1}
    space: {data.crop_padding: {choice: [0, 1]}, data.split_seed: {choice: [0, 1]}}
    search: {sampler: points, num_trials: 2}
    points: [{data.crop_padding: 0, data.split_seed: 0}]
    """
    path, store = folder / "points.yaml", Store.at("store")
    path.write_text(textwrap.dedent(text))
    space, store = load_space(path), Store.at("store")
    both = (
        "[{data.crop_padding: 0, data.split_seed: 0}, {data.crop_padding: 1, data.split_seed: 1}]"
    )
    more = load_space(path, [f"points={both}"])
    whole = space.model_copy(
        update={"name": "sure", "search": space.search.model_copy(update={"sampler": "random"})}
    )
    store.create()
    studies = open_storage(store, None)
    for each, marks in ((space, {}), (more, {}), (whole, {"confirms": "points"})):
        hashes = file_hashes(each, store, prepare_data(each, store))
        Study.create_or_continue(studies, each, {}, hashes, marks=marks)


def test_the_command_that_a_saved_network_suggests_can_be_typed(folder):
    words = ["train", "--space", str(SPACE), *QUICK, "--out", "net"]
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    command, _ = next_steps(answer.output)
    assert command[:5] == ["search", "--name", "from-net", "--space", str(SPACE)]
    overrides = [word for before, word in itertools.pairwise(command) if before == "--set"]
    space = load_space(SPACE, overrides)
    prepare_data(space, Store.at(str(folder / "store")))  # the weights fit
    assert space.config({}).network.width == 2
    assert len(prepare(Digits()).classes) == 10


@pytest.mark.parametrize("command", ["train", "plan"])
def test_a_store_that_is_a_file_is_refused(folder, command):
    (folder / "file").write_text("mine")
    assert "is not a folder. Give --store" in refused("--store", "file", command=command)


def test_a_study_to_start_from_is_looked_for_before_a_study_is_made(folder):
    said = refused("--name", "new", "--warm-start", "old", "--store", "store", command="search")
    assert "\nerror: there is no study" in f"\n{said}"  # MLflow, if imported before, may say more
    assert study_names(open_storage(Store.at("store"), None)) == []
    said = refused("--name", "new", "--warm-start", "new", "--store", "store", command="search")
    assert "\nerror: --warm-start new: a study learns from its own trials" in f"\n{said}"
